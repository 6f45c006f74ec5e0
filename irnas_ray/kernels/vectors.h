/* Vectors of BLOCK floats, and code that is compiled for new processors and old ones. */
#ifndef IRNAS_RAY_VECTORS
#define IRNAS_RAY_VECTORS

#define BLOCK 8
typedef float block __attribute__((vector_size(4 * BLOCK), aligned(4), may_alias));

/* named by a feature: code for an "arch" is taken on that maker's processors alone */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define FOR_EVERY_PROCESSOR __attribute__((target_clones("fma", "default")))
#else
#define FOR_EVERY_PROCESSOR
#endif
/* inlined for speed: code for an older processor called from code for a newer one is slower than either */
#define INLINE static inline __attribute__((always_inline))

#endif
