/* What the generated code calls: elementary functions that compilers can vectorise, and products with packed weights.
   GNU C (gcc, clang, zig cc). Errors of the functions: a few times float32's rounding. */
#include <stdint.h>
#include <string.h>

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

/* ---- rows[b][out + o] = bias[o] + sum_i weight[o][i] * rows[b][in + i], for n rows

   ``outputs`` is a multiple of PANEL. Weights come in panels of PANEL outputs, and in a panel input by input. In half the space (bfloat16, the upper half of
   a float32) a 32-bit word holds the weights of outputs o (lower half) and o + LANES (upper half). */
#define LANES 16
#define PANEL 64
typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef uint32_t words __attribute__((vector_size(4 * LANES)));

static inline words load(const void *from) {
    words w;
    memcpy(&w, from, sizeof w);
    return w;
}

#define PRODUCT(NAME, ROWS, VECTORS_OF_WEIGHTS, WEIGHTS)                                                             \
    static inline void NAME(const char *w, const float *bias, float **rows, int in, int out, int inputs,             \
                            int outputs) {                                                                           \
        for (int o = 0; o < outputs; o += PANEL) {                                                                   \
            lanes sum[ROWS][4] = {0};                                                                                \
            for (int i = 0; i < inputs; i++, w += 64 * VECTORS_OF_WEIGHTS) {                                         \
                lanes weight[4] = WEIGHTS;                                                                           \
                for (int b = 0; b < ROWS; b++)                                                                       \
                    for (int k = 0; k < 4; k++) sum[b][k] += weight[k] * rows[b][in + i];                            \
            }                                                                                                        \
            for (int b = 0; b < ROWS; b++)                                                                           \
                for (int k = 0; k < 4; k++) {                                                                        \
                    lanes y = sum[b][k] + (lanes)load(bias + o + LANES * k);                                         \
                    memcpy(rows[b] + out + o + LANES * k, &y, sizeof y);                                             \
                }                                                                                                    \
        }                                                                                                            \
    }

#define SINGLE {(lanes)load(w), (lanes)load(w + 64), (lanes)load(w + 128), (lanes)load(w + 192)}
#define HALVES {(lanes)(load(w) << 16), (lanes)(load(w) & 0xffff0000), \
                (lanes)(load(w + 64) << 16), (lanes)(load(w + 64) & 0xffff0000)}
PRODUCT(product_single_1, 1, 4, SINGLE)
PRODUCT(product_single_2, 2, 4, SINGLE)
PRODUCT(product_single_4, 4, 4, SINGLE)
PRODUCT(product_half_1, 1, 2, HALVES)
PRODUCT(product_half_2, 2, 2, HALVES)
PRODUCT(product_half_4, 4, 2, HALVES)

#define LINEAR(KIND)                                                                                                 \
    static void linear_##KIND(const char *w, const float *bias, float **rows, int n, int in, int out, int inputs,    \
                              int outputs) {                                                                         \
        for (; n >= 4; n -= 4, rows += 4) product_##KIND##_4(w, bias, rows, in, out, inputs, outputs);               \
        for (; n >= 2; n -= 2, rows += 2) product_##KIND##_2(w, bias, rows, in, out, inputs, outputs);               \
        for (; n >= 1; n -= 1, rows += 1) product_##KIND##_1(w, bias, rows, in, out, inputs, outputs);               \
    }
LINEAR(single)
LINEAR(half)

/* What no step can beat: reads ``bytes`` (a multiple of 512) and adds them up. */
float read_through(const char *from, int64_t bytes) {
    lanes sum[8] = {0};
    for (const char *end = from + bytes; from < end; from += 512)
        for (int k = 0; k < 8; k++) sum[k] += (lanes)load(from + 64 * k);
    lanes all = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
    float total = 0;
    for (int i = 0; i < LANES; i++) total += all[i];
    return total;
}
