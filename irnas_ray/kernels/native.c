/* Bilinear samples of an image and their derivatives, for the CPU: what irnas_ray/kernels/native.py calls.
 *
 * Images are rows of channels, (height + 2) x (width + 2) x channels with one zero pixel around the picture, and the
 * number of channels is a multiple of BLOCK, so that every pixel is a few whole vectors. All arrays are contiguous.
 * Positions outside [-1, height) x [-1, width) give zero samples and no derivative, those that are not numbers samples
 * and derivatives that are not numbers either, as the formulas of grid_sample do; neither reads or writes a pixel.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "vectors.h"

#ifndef IRNAS_RAY_SOURCES
#define IRNAS_RAY_SOURCES ""
#endif

/* The hash of the sources that this was compiled from: setup.py, and compiled.py, which asks. */
const char *irnas_ray_sources(void) { return IRNAS_RAY_SOURCES; }

typedef struct {
    int64_t items;    /* images times groups */
    int64_t groups;   /* groups that read one image, or 1 where every item has its own */
    int64_t channels; /* a multiple of BLOCK */
    int64_t height, width;
    int64_t taps, rows, columns; /* of the kernel, and of the output */
    int64_t parts; /* in how many parts the rows of an item's output are shared out */
    int64_t first, last; /* the rows of the output that are wanted are [first, last) */
} shape;

typedef struct {
    int64_t first; /* index of the upper left pixel's first channel */
    float y, x;    /* distance beyond that pixel */
} place;

INLINE int find(const shape *s, float y, float x, place *found) {
    if (!(y >= -1.0f && y < (float)s->height && x >= -1.0f && x < (float)s->width)) return 0;
    float top = floorf(y), left = floorf(x);
    found->first = (((int64_t)top + 1) * (s->width + 2) + (int64_t)left + 1) * s->channels;
    found->y = y - top;
    found->x = x - left;
    return 1;
}

INLINE const float *image_of(const shape *s, const float *images, int64_t item) {
    return images + item / s->groups * (s->height + 2) * (s->width + 2) * s->channels;
}

typedef float quad __attribute__((vector_size(16)));
typedef union {
    block whole;
    quad halves[2];
} halved;

#ifdef __clang__
#define PICK(a, b, i, j, k, l) __builtin_shufflevector(a, b, i, j, k, l)
#else
typedef int32_t picks __attribute__((vector_size(16)));
#define PICK(a, b, i, j, k, l) __builtin_shuffle(a, b, (picks){i, j, k, l})
#endif

INLINE quad folded(block values) {
    const halved both = {.whole = values};
    return both.halves[0] + both.halves[1];
}

/* The sums of four blocks. One after the other they would take longer than making the blocks. */
INLINE quad sums(block first, block second, block third, block fourth) {
    const quad a = folded(first), b = folded(second), c = folded(third), d = folded(fourth);
    const quad ab = PICK(a, b, 0, 4, 1, 5) + PICK(a, b, 2, 6, 3, 7);
    const quad cd = PICK(c, d, 0, 4, 1, 5) + PICK(c, d, 2, 6, 3, 7);
    return PICK(ab, cd, 0, 1, 4, 5) + PICK(ab, cd, 2, 3, 6, 7);
}

/* One row of an item's positions and masks, output by output: reading them tap by tap, as they are stored, at the same
 * time as pixels would put every tap of an output into the same few lines of the cache. */
typedef struct {
    float y, x, factor;
} move;

INLINE void read_row(const shape *s, const float *ys, const float *xs, const float *offsets, const float *masks,
                     int64_t item, int64_t row, move *moves) {
    const int64_t outputs = s->rows * s->columns;
    for (int64_t tap = 0; tap < s->taps; tap++) {
        const float *y = offsets + (item * s->taps + tap) * 2 * outputs + row * s->columns, *x = y + outputs;
        const float *mask = masks ? masks + (item * s->taps + tap) * outputs + row * s->columns : 0;
        for (int64_t column = 0; column < s->columns; column++) {
            move *to = moves + column * s->taps + tap;
            to->y = ys[tap * s->rows + row] + y[column];
            to->x = xs[tap * s->columns + column] + x[column];
            to->factor = mask ? mask[column] : 1.0f;
        }
    }
}

INLINE void write_row(const shape *s, const move *moves, int64_t item, int64_t row, float *into_offsets,
                      float *into_masks) {
    const int64_t outputs = s->rows * s->columns;
    for (int64_t tap = 0; tap < s->taps; tap++) {
        float *y = into_offsets + (item * s->taps + tap) * 2 * outputs + row * s->columns, *x = y + outputs;
        float *mask = into_masks ? into_masks + (item * s->taps + tap) * outputs + row * s->columns : 0;
        for (int64_t column = 0; column < s->columns; column++) {
            const move *from = moves + column * s->taps + tap;
            y[column] = from->y, x[column] = from->x;
            if (mask) mask[column] = from->factor;
        }
    }
}

INLINE float nan_if(int condition) { return condition ? NAN : 0.0f; }

/* the channels of a sample that is nowhere in the image */
INLINE void fill_outside(const shape *s, const move *at, float *sample) {
    const float value = nan_if(isnan(at->y) || isnan(at->x)) * at->factor;
    for (int64_t k = 0; k < s->channels; k++) sample[k] = value;
}

/* samples[item, wanted output, tap, channel] of the rows [from, until) of one item, times the mask if there is one */
FOR_EVERY_PROCESSOR
void sample_rows(const shape *of, const float *images, const float *ys, const float *xs, const float *offsets,
                 const float *masks, float *samples, int64_t item, int64_t from, int64_t until, move *moves) {
    const shape local = *of, *s = &local; /* a copy that no store below can change */
    const float *image = image_of(s, images, item);
    const int64_t below = (s->width + 2) * s->channels, count = s->columns * s->taps;
    for (int64_t row = from; row < until; row++) {
        float *sample = samples + (item * (s->last - s->first) + row - s->first) * count * s->channels;
        read_row(s, ys, xs, offsets, masks, item, row, moves);
        for (int64_t index = 0; index < count; index++, sample += s->channels) {
            place p;
            if (!find(s, moves[index].y, moves[index].x, &p)) {
                fill_outside(s, moves + index, sample);
                continue;
            }
            const float lower = p.y * moves[index].factor, upper = moves[index].factor - lower;
            const float a = upper * (1 - p.x), b = upper * p.x, c = lower * (1 - p.x), d = lower * p.x;
            const float *pixel = image + p.first;
            for (int64_t k = 0; k < s->channels; k += BLOCK)
                *(block *)(sample + k) =
                    a * *(const block *)(pixel + k) + b * *(const block *)(pixel + s->channels + k) +
                    c * *(const block *)(pixel + below + k) + d * *(const block *)(pixel + below + s->channels + k);
        }
    }
}

/* Derivatives of the sum of samples * into_samples over the rows [from, until) of one item's output. Adds to the
 * gradient image of this item and part; writes those of offsets and masks, and the samples if asked for. */
FOR_EVERY_PROCESSOR
void differentiate_rows(const shape *of, const float *images, const float *ys, const float *xs, const float *offsets,
                        const float *masks, const float *into_samples, float *into_image, float *into_offsets,
                        float *into_masks, float *samples, int64_t item, int64_t from, int64_t until, move *moves) {
    const shape local = *of, *s = &local; /* a copy that no store below can change */
    const float *image = image_of(s, images, item);
    const int64_t below = (s->width + 2) * s->channels, count = s->columns * s->taps;
    for (int64_t row = from; row < until; row++) {
        const int64_t start = (item * (s->last - s->first) + row - s->first) * count * s->channels;
        const float *gradient = into_samples + start;
        float *sample = samples ? samples + start : 0;
        read_row(s, ys, xs, offsets, masks, item, row, moves);
        for (int64_t index = 0; index < count; index++, gradient += s->channels) {
            place p;
            if (!find(s, moves[index].y, moves[index].x, &p)) {
                if (sample) fill_outside(s, moves + index, sample), sample += s->channels;
                const int no_y = isnan(moves[index].y), no_x = isnan(moves[index].x);
                moves[index] = (move){nan_if(no_x), nan_if(no_y), nan_if(no_y || no_x)};
                continue;
            }
            const float factor = moves[index].factor, lower = p.y * factor, upper = factor - lower;
            const float a = upper * (1 - p.x), b = upper * p.x, c = lower * (1 - p.x), d = lower * p.x;
            const float *pixel = image + p.first;
            float *into = into_image + p.first;
            block one = {0}, two = {0}, three = {0}, four = {0};
            for (int64_t k = 0; k < s->channels; k += BLOCK) {
                const block g = *(const block *)(gradient + k);
                const block upper_left = *(const block *)(pixel + k);
                const block upper_right = *(const block *)(pixel + s->channels + k);
                const block lower_left = *(const block *)(pixel + below + k);
                const block lower_right = *(const block *)(pixel + below + s->channels + k);
                one += g * upper_left, two += g * upper_right, three += g * lower_left, four += g * lower_right;
                *(block *)(into + k) += a * g;
                *(block *)(into + s->channels + k) += b * g;
                *(block *)(into + below + k) += c * g;
                *(block *)(into + below + s->channels + k) += d * g;
                if (sample)
                    *(block *)(sample + k) = a * upper_left + b * upper_right + c * lower_left + d * lower_right;
            }
            if (sample) sample += s->channels;
            const quad at = sums(one, two, three, four);
            const float ul = at[0], ur = at[1], ll = at[2], lr = at[3];
            moves[index].y = factor * ((1 - p.x) * (ll - ul) + p.x * (lr - ur));
            moves[index].x = factor * ((1 - p.y) * (ur - ul) + p.y * (lr - ll));
            moves[index].factor = (1 - p.y) * ((1 - p.x) * ul + p.x * ur) + p.y * ((1 - p.x) * ll + p.x * lr);
        }
        write_row(s, moves, item, row, into_offsets, into_masks);
    }
}

/* The first row of a part of the wanted rows. */
static int64_t row_of(const shape *s, int64_t part) {
    return s->first + (s->last - s->first) * part / s->parts;
}

/* Both return 0, or 1 if there is no memory for a row of positions. */
int sample(const shape *s, const float *images, const float *ys, const float *xs, const float *offsets,
           const float *masks, float *samples) {
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int64_t job = 0; job < s->items * s->parts; job++) {
        const int64_t item = job / s->parts, part = job % s->parts;
        move *moves = malloc(s->columns * s->taps * sizeof(move));
        if (moves)
            sample_rows(s, images, ys, xs, offsets, masks, samples, item, row_of(s, part), row_of(s, part + 1), moves);
        else
            failed = 1;
        free(moves);
    }
    return failed;
}

int differentiate(const shape *s, const float *images, const float *ys, const float *xs, const float *offsets,
                  const float *masks, const float *into_samples, float *into_images, float *into_offsets,
                  float *into_masks, float *samples) {
    const int64_t size = (s->height + 2) * (s->width + 2) * s->channels;
    int failed = 0;
#pragma omp parallel for schedule(static) reduction(| : failed)
    for (int64_t job = 0; job < s->items * s->parts; job++) {
        const int64_t item = job / s->parts, part = job % s->parts;
        move *moves = malloc(s->columns * s->taps * sizeof(move));
        memset(into_images + job * size, 0, 4 * size);
        if (moves)
            differentiate_rows(s, images, ys, xs, offsets, masks, into_samples, into_images + job * size, into_offsets,
                               into_masks, samples, item, row_of(s, part), row_of(s, part + 1), moves);
        else
            failed = 1;
        free(moves);
    }
    return failed;
}
