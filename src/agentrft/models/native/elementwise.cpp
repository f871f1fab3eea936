// The small operators between the matrix products of a transformer layer, and their gradients.
//
// All round where transformers' modules round, so that both give the same numbers up to the last bit of a sum's order.
// Pointers are to contiguous rows unless a stride is given; strides count elements.

#include "common.h"

using namespace agentrft;

namespace {

inline float inverse_rms(const bf16* x, std::int64_t width, float epsilon) {
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (std::int64_t i = 0; i < width; ++i) squares += widen(x[i]) * widen(x[i]);
    return 1.0f / std::sqrt(squares / static_cast<float>(width) + epsilon);
}

}  // namespace

extern "C" {

// sum = x + delta (or x, if delta is null); out = sum / rms(sum) * weight. All [rows, width]; sum may be x itself.
void add_rms_norm(const bf16* x, const bf16* delta, const bf16* weight, bf16* sum, bf16* out, std::int64_t rows,
                  std::int64_t width, float epsilon) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        bf16* own = sum + row * width;
        bf16* result = out + row * width;
        if (delta != nullptr) {
            const bf16 *before = x + row * width, *change = delta + row * width;
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) own[i] = narrow(widen(before[i]) + widen(change[i]));
        }
        const float inverse = inverse_rms(own, width, epsilon);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) result[i] = narrow(rounded(widen(own[i]) * inverse) * widen(weight[i]));
    }
}

// The gradient of `add_rms_norm` to x and to delta alike, from those of its two results; of_sum may be null.
void add_rms_norm_grad(const bf16* sum, const bf16* weight, const bf16* of_out, const bf16* of_sum, bf16* out,
                       std::int64_t rows, std::int64_t width, float epsilon) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        const bf16 *own = sum + row * width, *gradient = of_out + row * width;
        const float inverse = inverse_rms(own, width, epsilon);
        float along = 0.0f;
#pragma omp simd reduction(+ : along)
        for (std::int64_t i = 0; i < width; ++i)
            along += rounded(widen(gradient[i]) * widen(weight[i])) * rounded(widen(own[i]) * inverse);
        along /= static_cast<float>(width);
        bf16* result = out + row * width;
        if (of_sum != nullptr) {
            const bf16* direct = of_sum + row * width;
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                const float weighted = rounded(widen(gradient[i]) * widen(weight[i]));
                const float through = (weighted - rounded(widen(own[i]) * inverse) * along) * inverse;
                result[i] = narrow(widen(direct[i]) + rounded(through));
            }
        } else {
#pragma omp simd
            for (std::int64_t i = 0; i < width; ++i) {
                const float weighted = rounded(widen(gradient[i]) * widen(weight[i]));
                result[i] = narrow((weighted - rounded(widen(own[i]) * inverse) * along) * inverse);
            }
        }
    }
}

// Rotary embedding in place: x [tokens, heads, head_dim] with a stride between tokens, cosine and sine [tokens, head_dim].
void rotate(bf16* x, const bf16* cosine, const bf16* sine, std::int64_t tokens, std::int64_t stride, std::int64_t heads,
            std::int64_t head_dim) {
    const std::int64_t half = head_dim / 2;
#pragma omp parallel for schedule(static) if (tokens * heads * head_dim >= PARALLEL_FROM)
    for (std::int64_t token = 0; token < tokens; ++token) {
        const bf16* c = cosine + token * head_dim;
        const bf16* s = sine + token * head_dim;
        for (std::int64_t head = 0; head < heads; ++head) {
            bf16* own = x + token * stride + head * head_dim;
#pragma omp simd
            for (std::int64_t i = 0; i < half; ++i) {
                const float first = widen(own[i]), second = widen(own[i + half]);
                own[i] = narrow(rounded(first * widen(c[i])) + rounded(-second * widen(s[i])));
                own[i + half] = narrow(rounded(second * widen(c[i + half])) + rounded(first * widen(s[i + half])));
            }
        }
    }
}

// out = silu(gate) * up; gate_up [rows, 2 * width] holds the gate first; out [rows, width].
void swiglu(const bf16* gate_up, bf16* out, std::int64_t rows, std::int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        const bf16* gate = gate_up + row * 2 * width;
        const bf16* up = gate + width;
        bf16* result = out + row * width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            const float x = widen(gate[i]);
            result[i] = narrow(rounded(x / (1.0f + exponential(-x))) * widen(up[i]));
        }
    }
}

// The gradient of `swiglu` to gate_up, [rows, 2 * width].
void swiglu_grad(const bf16* gate_up, const bf16* of_out, bf16* out, std::int64_t rows, std::int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        const bf16 *gate = gate_up + row * 2 * width, *up = gate + width, *gradient = of_out + row * width;
        bf16 *of_gate = out + row * 2 * width, *of_up = of_gate + width;
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) {
            const float x = widen(gate[i]), g = widen(gradient[i]);
            const float share = 1.0f / (1.0f + exponential(-x));
            of_up[i] = narrow(rounded(x * share) * g);
            of_gate[i] = narrow(rounded(g * widen(up[i])) * share * (1.0f + x * (1.0f - share)));
        }
    }
}

// The gradient of a softmax: out = weights * (of_weights - sum(weights * of_weights)), over rows; out may be of_weights.
void softmax_grad(const bf16* weights, const bf16* of_weights, bf16* out, std::int64_t rows, std::int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < rows; ++row) {
        const bf16 *own = weights + row * width, *gradient = of_weights + row * width;
        bf16* result = out + row * width;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (std::int64_t i = 0; i < width; ++i) sum += widen(own[i]) * widen(gradient[i]);
#pragma omp simd
        for (std::int64_t i = 0; i < width; ++i) result[i] = narrow(widen(own[i]) * (widen(gradient[i]) - sum));
    }
}

// Softmax in place of scores [heads, tokens * group, keys], where the tokens are the last of the keys and none sees those
// behind itself; the `group` rows of a token stand together.
void causal_softmax(bf16* scores, std::int64_t heads, std::int64_t tokens, std::int64_t group, std::int64_t keys) {
#pragma omp parallel for schedule(static) if (heads * tokens * group * keys >= PARALLEL_FROM)
    for (std::int64_t row = 0; row < heads * tokens * group; ++row) {
        bf16* own = scores + row * keys;
        const std::int64_t visible = keys - tokens + row / group % tokens + 1;
        static thread_local std::vector<float> wide;
        wide.resize(visible);
        float* values = wide.data();
        float highest = widen(own[0]);
#pragma omp simd reduction(max : highest)
        for (std::int64_t i = 0; i < visible; ++i) {
            values[i] = widen(own[i]);
            highest = std::max(highest, values[i]);
        }
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (std::int64_t i = 0; i < visible; ++i) {
            values[i] = exponential(values[i] - highest);
            total += values[i];
        }
        const float scale = 1.0f / total;
#pragma omp simd
        for (std::int64_t i = 0; i < visible; ++i) own[i] = narrow(values[i] * scale);
        std::memset(own + visible, 0, (keys - visible) * sizeof(bf16));
    }
}
}
