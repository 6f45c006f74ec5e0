/* Operations on the planes of a batch, (batch x channels x height x width) of float, for the CPU: depthwise
 * convolutions and normalised sums, what irnas_ray/kernels/planes.py calls. All arrays are contiguous.
 *
 * Each reads and writes every plane once, where PyTorch goes over all of them several times: at the sizes of a supernet
 * they travel to memory and back each time.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

/* so many values are added up in float, and their sums in double */
#define RUN 1024

INLINE double total_of(block values) {
    double total = 0;
    for (int i = 0; i < BLOCK; i++) total += values[i];
    return total;
}

typedef struct {
    int64_t batch, channels; /* of the source */
    int64_t copies;          /* kernels for each of its channels; the output has copies * channels */
    int64_t height, width;
} filter_shape;

/* a plane with zeros around it, (height + 2) x (width + 2) */
INLINE void pad(const filter_shape *s, const float *plane, float *padded) {
    memset(padded, 0, sizeof(float) * (s->height + 2) * (s->width + 2));
    for (int64_t row = 0; row < s->height; row++)
        memcpy(padded + (row + 1) * (s->width + 2) + 1, plane + row * s->width, sizeof(float) * s->width);
}

/* 3x3 correlation of a padded plane, written or added; `reversed` turns the kernel by half a turn */
INLINE void filter_plane(const filter_shape *s, const float *padded, const float *kernel, int reversed, int added,
                         float *restrict output) {
    float k[9];
    for (int tap = 0; tap < 9; tap++) k[tap] = kernel[reversed ? 8 - tap : tap];
    const int64_t width = s->width, below = s->width + 2;
    for (int64_t row = 0; row < s->height; row++) {
        const float *upper = padded + row * below, *middle = upper + below, *lower = middle + below;
        float *into = output + row * width;
        for (int64_t x = 0; x < width; x++) {
            const float value = k[0] * upper[x] + k[1] * upper[x + 1] + k[2] * upper[x + 2] + k[3] * middle[x] +
                                k[4] * middle[x + 1] + k[5] * middle[x + 2] + k[6] * lower[x] + k[7] * lower[x + 1] +
                                k[8] * lower[x + 2];
            into[x] = added ? into[x] + value : value;
        }
    }
}

/* adds the products of a plane with a padded one, moved by each of the nine taps */
INLINE void correlate(const filter_shape *s, const float *plane, const float *padded, double *sums) {
    const int64_t width = s->width, below = s->width + 2;
    for (int64_t row = 0; row < s->height; row++) {
        const float *own = plane + row * width, *other = padded + row * below;
        block blocks[9] = {{0}};
        int64_t x = 0;
        for (; x + BLOCK <= width; x += BLOCK) {
            const block value = *(const block *)(own + x);
            for (int tap = 0; tap < 9; tap++)
                blocks[tap] += value * *(const block *)(other + tap / 3 * below + tap % 3 + x);
        }
        for (int tap = 0; tap < 9; tap++) {
            sums[tap] += total_of(blocks[tap]);
            for (int64_t rest = x; rest < width; rest++) sums[tap] += own[rest] * other[tap / 3 * below + tap % 3 + rest];
        }
    }
}

FOR_EVERY_PROCESSOR
void filter_copies(const filter_shape *s, const float *source, const float *kernels, float *output, int64_t image,
                   int64_t channel, float *padded) {
    const int64_t size = s->height * s->width;
    pad(s, source + (image * s->channels + channel) * size, padded);
    for (int64_t copy = 0; copy < s->copies; copy++) {
        const int64_t number = copy * s->channels + channel;
        filter_plane(s, padded, kernels + 9 * number, 0, 0, output + (image * s->copies * s->channels + number) * size);
    }
}

FOR_EVERY_PROCESSOR
void differentiate_copies(const filter_shape *s, const float *source, const float *kernels, const float *gradient,
                          float *into_source, float *into_kernels, int64_t channel, float *padded, float *outer,
                          double *sums) {
    const int64_t size = s->height * s->width;
    for (int64_t image = 0; image < s->batch; image++) {
        const int64_t plane = (image * s->channels + channel) * size;
        if (into_kernels) pad(s, source + plane, padded);
        for (int64_t copy = 0; copy < s->copies; copy++) {
            const int64_t number = copy * s->channels + channel;
            const float *own = gradient + (image * s->copies * s->channels + number) * size;
            pad(s, own, outer);
            filter_plane(s, outer, kernels + 9 * number, 1, copy > 0, into_source + plane);
            if (into_kernels) correlate(s, own, padded, sums + 9 * copy);
        }
    }
    if (into_kernels)
        for (int64_t copy = 0; copy < s->copies; copy++)
            for (int tap = 0; tap < 9; tap++)
                into_kernels[9 * (copy * s->channels + channel) + tap] = (float)sums[9 * copy + tap];
}

/* All functions below return 0, or 1 if there is no memory for a plane or two. */
int depthwise(const filter_shape *s, const float *source, const float *kernels, float *output) {
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int64_t job = 0; job < s->batch * s->channels; job++) {
        float *padded = malloc(sizeof(float) * (s->height + 2) * (s->width + 2));
        if (padded)
            filter_copies(s, source, kernels, output, job / s->channels, job % s->channels, padded);
        else
            failed = 1;
        free(padded);
    }
    return failed;
}

int depthwise_gradients(const filter_shape *s, const float *source, const float *kernels, const float *gradient,
                        float *into_source, float *into_kernels) {
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int64_t channel = 0; channel < s->channels; channel++) {
        const int64_t size = (s->height + 2) * (s->width + 2);
        float *planes = malloc(2 * sizeof(float) * size);
        double *sums = calloc(9 * s->copies, sizeof(double));
        if (planes && sums)
            differentiate_copies(s, source, kernels, gradient, into_source, into_kernels, channel, planes,
                                 planes + size, sums);
        else
            failed = 1;
        free(planes);
        free(sums);
    }
    return failed;
}

typedef struct {
    int64_t batch, channels, pixels; /* of every term */
    int64_t terms;
} sum_shape;

/* the sums of a run of values, and of their products with others */
INLINE void add_run(const float *values, const float *others, float less, int64_t count, double *sum, double *product) {
    block one = {0}, two = {0};
    int64_t i = 0;
    for (; i + BLOCK <= count; i += BLOCK) {
        const block value = *(const block *)(values + i);
        one += value;
        two += value * (*(const block *)(others + i) - less);
    }
    *sum += total_of(one), *product += total_of(two);
    for (; i < count; i++) *sum += values[i], *product += values[i] * (others[i] - less);
}

INLINE void add_squares(const float *values, float mean, int64_t count, double *squares) {
    block all = {0};
    int64_t i = 0;
    for (; i + BLOCK <= count; i += BLOCK) {
        const block centred = *(const block *)(values + i) - mean;
        all += centred * centred;
    }
    *squares += total_of(all);
    for (; i < count; i++) *squares += (values[i] - mean) * (values[i] - mean);
}

INLINE int64_t run_from(int64_t start, int64_t end) { return end - start < RUN ? end - start : RUN; }

/* The sum over the terms of scale * (value - mean) / deviation of one channel, over all images. */
FOR_EVERY_PROCESSOR
void add_normalised(const sum_shape *s, const float *const *terms, const float *scales, float eps, float *total,
                    float *means, float *variances, float *inverses, int64_t channel) {
    const int64_t count = s->batch * s->pixels;
    for (int64_t term = 0; term < s->terms; term++) {
        const int64_t index = term * s->channels + channel;
        double sum = 0, squares = 0, unused = 0;
        for (int64_t image = 0; image < s->batch; image++) {
            const float *plane = terms[term] + (image * s->channels + channel) * s->pixels;
            for (int64_t i = 0; i < s->pixels; i += RUN)
                add_run(plane + i, plane + i, 0, run_from(i, s->pixels), &sum, &unused);
        }
        const float mean = (float)(sum / count);
        for (int64_t image = 0; image < s->batch; image++) {
            const float *plane = terms[term] + (image * s->channels + channel) * s->pixels;
            for (int64_t i = 0; i < s->pixels; i += RUN) add_squares(plane + i, mean, run_from(i, s->pixels), &squares);
        }
        const float variance = (float)(squares / count), inverse = 1.0f / sqrtf(variance + eps);
        means[index] = mean, variances[index] = variance, inverses[index] = inverse;
        const float factor = inverse * scales[index];
        for (int64_t image = 0; image < s->batch; image++) {
            const int64_t start = (image * s->channels + channel) * s->pixels;
            const float *plane = terms[term] + start;
            float *restrict into = total + start;
            for (int64_t i = 0; i < s->pixels; i++) into[i] = (term ? into[i] : 0) + (plane[i] - mean) * factor;
        }
    }
}

/* Derivatives of add_normalised. */
FOR_EVERY_PROCESSOR
void differentiate_normalised(const sum_shape *s, const float *const *terms, const float *scales, const float *means,
                              const float *inverses, const float *gradient, float *const *into_terms,
                              float *into_scales, int64_t channel) {
    const int64_t count = s->batch * s->pixels;
    for (int64_t term = 0; term < s->terms; term++) {
        const int64_t index = term * s->channels + channel;
        const float mean = means[index], inverse = inverses[index];
        double sum = 0, product = 0;
        for (int64_t image = 0; image < s->batch; image++) {
            const int64_t start = (image * s->channels + channel) * s->pixels;
            for (int64_t i = 0; i < s->pixels; i += RUN)
                add_run(gradient + start + i, terms[term] + start + i, mean, run_from(i, s->pixels), &sum, &product);
        }
        into_scales[index] = (float)product * inverse;
        const float factor = scales[index] * inverse, shift = (float)(sum / count),
                    slope = (float)(product / count) * inverse * inverse;
        for (int64_t image = 0; image < s->batch; image++) {
            const int64_t start = (image * s->channels + channel) * s->pixels;
            const float *outer = gradient + start, *plane = terms[term] + start;
            float *restrict into = into_terms[term] + start;
            for (int64_t i = 0; i < s->pixels; i++) into[i] = factor * (outer[i] - shift - (plane[i] - mean) * slope);
        }
    }
}

int normalised_sum(const sum_shape *s, const float *const *terms, const float *scales, float eps, float *total,
                   float *means, float *variances, float *inverses) {
#pragma omp parallel for schedule(static)
    for (int64_t channel = 0; channel < s->channels; channel++)
        add_normalised(s, terms, scales, eps, total, means, variances, inverses, channel);
    return 0;
}

int normalised_sum_gradients(const sum_shape *s, const float *const *terms, const float *scales, const float *means,
                             const float *inverses, const float *gradient, float *const *into_terms,
                             float *into_scales) {
#pragma omp parallel for schedule(static)
    for (int64_t channel = 0; channel < s->channels; channel++)
        differentiate_normalised(s, terms, scales, means, inverses, gradient, into_terms, into_scales, channel);
    return 0;
}
