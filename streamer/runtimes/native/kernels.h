/* What the generated code calls: elementary functions that compilers can vectorise, and products with packed weights.
   GNU C (gcc, clang, zig cc). Errors of the functions: a few times float32's rounding. */
#include <stdint.h>
#include <string.h>
#if defined(__AVX512VNNI__) || defined(__AVXVNNI__)
#include <immintrin.h>
#endif

static inline float square(float x) { return x * x; }
static inline float least(float a, float b) { return a < b ? a : b; }
static inline float most(float a, float b) { return a > b ? a : b; }
static inline float pick(float which, float a, float b) { return which != 0 ? a : b; } /* both are read: no branch */

static inline float exp_(float x) { /* 2^n * e^r, |r| <= ln 2 / 2; coefficients of Cephes' expf */
    x = least(most(x, -80.0f), 80.0f); /* so that no result is a subnormal number, which processors are slow with */
    int32_t n = (int32_t)(x * 1.44269504088896341f + 128.5f) - 128; /* rounds: what is cut off is positive */
    float r = (x - (float)n * 0.693359375f) + (float)n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    int32_t bits = (n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, 4);
    return (p * r * r + r + 1.0f) * scale;
}

static inline float log_(float x) { /* of a positive, normal number; coefficients of Cephes' logf */
    int32_t bits;
    memcpy(&bits, &x, 4);
    int32_t n = (bits >> 23) - 126;
    bits = (bits & 0x007fffff) | 0x3f000000;
    float m;
    memcpy(&m, &bits, 4); /* x = m * 2^n, m in [0.5, 1) */
    int32_t low = m < 0.707106781186547524f;
    n -= low;
    float r = m - 1.0f + (low ? m : 0.0f), z = r * r;
    float p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f;
    p = p * r + 1.1676998740e-1f;
    p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f;
    p = p * r - 1.6668057665e-1f;
    p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f;
    p = p * r + 3.3333331174e-1f;
    return (p * r * z - 2.12194440e-4f * (float)n - 0.5f * z + r) + 0.693359375f * (float)n;
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exp_(-x)); }
static inline float tanh_(float x) { return 1.0f - 2.0f / (exp_(2.0f * x) + 1.0f); }
static inline float softplus(float x) { return most(x, 0.0f) + log_(1.0f + exp_(-__builtin_fabsf(x))); }

static inline float erf_(float x) { /* Abramowitz and Stegun 7.1.26: within 1.5e-7 */
    float a = __builtin_fabsf(x), t = 1.0f / (1.0f + 0.3275911f * a);
    float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    float y = 1.0f - p * exp_(-a * a);
    return x < 0 ? -y : y;
}
static inline float gelu(float x) { return 0.5f * x * (1.0f + erf_(x * 0.70710678118654752f)); }

/* ---- vectors, as wide as this processor's */
#if defined(__AVX512F__)
enum { LANES = 16, ROWS = 6 }; /* ROWS: actors that a product takes together, as many as have registers for their sums */
#elif defined(__AVX__)
enum { LANES = 8, ROWS = 1 };
#else
enum { LANES = 4, ROWS = 1 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

#define VECTORS(n) (((n) + LANES - 1) / LANES) /* that hold n floats */
#define VECTOR(n, v) ((v) < VECTORS(n) - 1 ? LANES : (n) - LANES * (VECTORS(n) - 1)) /* how many the v-th holds */

static inline words load(const void *from) {
    words w;
    memcpy(&w, from, sizeof w);
    return w;
}

/* ---- rows[b][out + o] = bias[o] + sum_i weight[o][i] * rows[b][in + i], for n rows

   ``outputs`` is a multiple of PANEL. Weights come in panels of PANEL outputs; all rows use a panel while it is near. */
enum { PANEL = 64, PARTS = PANEL / LANES }; /* PANEL: as in tensors.py */

/* Weights in float32, input by input. */
#define SINGLE(NAME, COUNT)                                                                                          \
    static inline void single_##NAME(const float *w, const float *bias, float **rows, int in, int out, int inputs) { \
        lanes sum[COUNT][PARTS] = {0};                                                                               \
        for (int i = 0; i < inputs; i++, w += PANEL)                                                                 \
            for (int k = 0; k < PARTS; k++) {                                                                        \
                lanes weight = (lanes)load(w + LANES * k);                                                           \
                for (int b = 0; b < COUNT; b++) sum[b][k] += weight * rows[b][in + i];                               \
            }                                                                                                        \
        for (int b = 0; b < COUNT; b++)                                                                              \
            for (int k = 0; k < PARTS; k++) {                                                                        \
                lanes y = sum[b][k] + (lanes)load(bias + LANES * k);                                                 \
                memcpy(rows[b] + out + LANES * k, &y, sizeof y);                                                     \
            }                                                                                                        \
    }
SINGLE(one, 1)
SINGLE(two, 2)
SINGLE(many, ROWS)

static void linear_single(const char *weights, const float *bias, float **rows, int n, int in, int out, int inputs,
                          int outputs) {
    const float *w = (const float *)weights;
    for (int o = 0; o < outputs; o += PANEL, w += inputs * PANEL, bias += PANEL) {
        int b = 0;
        for (; b + ROWS <= n; b += ROWS) single_many(w, bias, rows + b, in, out + o, inputs);
        for (; b + 2 <= n; b += 2) single_two(w, bias, rows + b, in, out + o, inputs);
        for (; b < n; b++) single_one(w, bias, rows + b, in, out + o, inputs);
    }
}

/* Weights that are whole numbers q in -127..127 times a scale of the output; ``outputs`` scales follow the biases. A
   word holds q + 128 of four inputs; four inputs after the other, each a word for every output of the panel. */
#if defined(__AVX512VNNI__)
#define DOT(sum, w, x) ((ints)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(w), (__m512i)(x)))
#elif defined(__AVXVNNI__)
#define DOT(sum, w, x) ((ints)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(w), (__m256i)(x)))
#endif

#ifdef DOT
/* In whole numbers: x = unit * (65536 d2 + 256 d1 + d0) with digits in -128..127, so rounded to a 2^-24th of the largest
   x, about as float32 rounds a sum of them. The products and their sums are exact. */
enum { DIGITS = 3, CHUNK = 32, LARGEST = 127 << 16 };
typedef struct {
    float unit;
    int32_t start[DIGITS]; /* of the sums: takes back the 128 of every weight */
} digits;

static inline digits split(const float *x, int inputs, int8_t *restrict to, int stride) {
    float top = 1e-30f;
    _Pragma("omp simd reduction(max:top)") for (int i = 0; i < inputs; i++) top = most(top, __builtin_fabsf(x[i]));
    float up = LARGEST / top;
    int32_t s0 = 0, s1 = 0, s2 = 0;
    _Pragma("omp simd reduction(+:s0,s1,s2)") for (int i = 0; i < inputs; i++) {
        float y = x[i] * up;
        int32_t whole = (int32_t)(y + (y < 0 ? -0.5f : 0.5f)), d0 = (int8_t)whole;
        whole = (whole - d0) >> 8;
        int32_t d1 = (int8_t)whole, d2 = (whole - d1) >> 8;
        to[i] = (int8_t)d0, to[stride + i] = (int8_t)d1, to[2 * stride + i] = (int8_t)d2;
        s0 += d0, s1 += d1, s2 += d2;
    }
    return (digits){top / LARGEST, {-128 * s0, -128 * s1, -128 * s2}};
}

#define BYTE(NAME, COUNT)                                                                                            \
    static inline void byte_##NAME(const char *w, const float *bias, const float *scale, float **rows, int out,      \
                                   int stride, const int8_t *x, const digits *of) {                                  \
        ints sum[COUNT][DIGITS][PARTS];                                                                              \
        for (int b = 0; b < COUNT; b++)                                                                              \
            for (int d = 0; d < DIGITS; d++)                                                                         \
                for (int k = 0; k < PARTS; k++) sum[b][d][k] = (ints){0} + of[b].start[d];                           \
        for (int i = 0; i < stride; i += 4, w += 4 * PANEL)                                                          \
            for (int b = 0; b < COUNT; b++)                                                                          \
                for (int d = 0; d < DIGITS; d++) {                                                                   \
                    int32_t four;                                                                                    \
                    memcpy(&four, x + (b * DIGITS + d) * stride + i, 4);                                             \
                    for (int k = 0; k < PARTS; k++)                                                                  \
                        sum[b][d][k] = DOT(sum[b][d][k], load(w + 4 * LANES * k), (ints){0} + four);                 \
                }                                                                                                    \
        for (int b = 0; b < COUNT; b++)                                                                              \
            for (int k = 0; k < PARTS; k++) {                                                                        \
                lanes s0 = __builtin_convertvector(sum[b][0][k], lanes);                                             \
                lanes s1 = __builtin_convertvector(sum[b][1][k], lanes);                                             \
                lanes s2 = __builtin_convertvector(sum[b][2][k], lanes);                                             \
                lanes y = (s2 * 65536.0f + (s1 * 256.0f + s0)) * of[b].unit * (lanes)load(scale + LANES * k);        \
                y += (lanes)load(bias + LANES * k);                                                                  \
                memcpy(rows[b] + out + LANES * k, &y, sizeof y);                                                     \
            }                                                                                                        \
    }
BYTE(one, 1)
BYTE(two, 2)

static void linear_byte(const char *weights, const float *bias, float **rows, int n, int in, int out, int inputs,
                        int outputs) {
    int stride = (inputs + 3) / 4 * 4, size = DIGITS * stride;
    for (; n > 0; n -= CHUNK, rows += CHUNK) {
        int count = n < CHUNK ? n : CHUNK;
        int8_t x[count * size];
        digits of[count];
        memset(x, 0, sizeof x);
        for (int b = 0; b < count; b++) of[b] = split(rows[b] + in, inputs, x + b * size, stride);
        const char *w = weights;
        for (int o = 0; o < outputs; o += PANEL, w += stride * PANEL) {
            const float *add = bias + o, *scale = add + outputs;
            int b = 0;
            for (; b + 2 <= count; b += 2) byte_two(w, add, scale, rows + b, out + o, stride, x + b * size, of + b);
            for (; b < count; b++) byte_one(w, add, scale, rows + b, out + o, stride, x + b * size, of + b);
        }
    }
}
#else
/* In floats: a number is shifted to the top of its word, which takes the 128 away and is 2^24 times too large. */
static inline void add_inputs(lanes *sum, const char *w, const float *x, int count) {
    for (int k = 0; k < PARTS; k++) {
        words four = load(w + 4 * LANES * k) ^ 0x80808080;
        for (int i = 0; i < count; i++) {
            words top = (four << (24 - 8 * i)) & 0xff000000;
            sum[k] += __builtin_convertvector((ints)top, lanes) * x[i];
        }
    }
}

static void linear_byte(const char *weights, const float *bias, float **rows, int n, int in, int out, int inputs,
                        int outputs) {
    for (int o = 0; o < outputs; o += PANEL, weights += (inputs + 3) / 4 * 4 * PANEL)
        for (int b = 0; b < n; b++) {
            const char *w = weights;
            const float *x = rows[b] + in, *end = x + inputs, *add = bias + o;
            lanes sum[PARTS] = {0};
            for (; x + 4 <= end; x += 4, w += 4 * PANEL) add_inputs(sum, w, x, 4);
            if (x < end) add_inputs(sum, w, x, end - x);
            for (int k = 0; k < PARTS; k++, add += LANES) {
                lanes y = sum[k] * ((lanes)load(add + outputs) * 0x1p-24f) + (lanes)load(add);
                memcpy(rows[b] + out + o + LANES * k, &y, sizeof y);
            }
        }
}
#endif

/* What no step can beat: reads ``bytes`` (a multiple of 512) and adds them up. */
float read_through(const char *from, int64_t bytes) {
    enum { SUMS = 512 / (4 * LANES) };
    lanes sum[SUMS] = {0};
    for (const char *end = from + bytes; from < end; from += 512)
        for (int k = 0; k < SUMS; k++) sum[k] += (lanes)load(from + 4 * LANES * k);
    float total = 0;
    for (int k = 0; k < SUMS; k++)
        for (int i = 0; i < LANES; i++) total += sum[k][i];
    return total;
}
