// The two sweeps of decode attention over float32: scores of queries with keys, and sums of weighted values.

#pragma once

#include "common.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#endif

namespace agentrft {

constexpr std::int64_t FLOAT_TOKENS = 4;  // scored together; pages hold a multiple

#if defined(__AVX2__) && defined(__FMA__)

constexpr std::int64_t FLOAT_AHEAD = 16;  // tokens between what is computed and what is fetched

inline void fetch(const float* from, std::int64_t elements) {
    for (std::int64_t i = 0; i < elements; i += 16) _mm_prefetch(reinterpret_cast<const char*>(from + i), _MM_HINT_T0);
}

inline __m128 added(__m256 a, __m256 b, __m256 c, __m256 d) {  // the sum of each
    const __m256 both = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    return _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps(both, 1));
}

template <int QUERIES>
void score(const Cached<float>& keys, std::int64_t length, const float* query, float* scores, std::int64_t stride,
           const float* then) {
    const std::int64_t head_dim = keys.head_dim;
    for (std::int64_t start = 0; start < length; start += keys.page_tokens) {
        const float* key = keys.page(start / keys.page_tokens);
        const std::int64_t end = std::min(start + keys.page_tokens, length);
        const float* next = end < length ? keys.page(start / keys.page_tokens + 1) : then;
        for (std::int64_t token = start; token < end; token += FLOAT_TOKENS, key += FLOAT_TOKENS * head_dim) {
            const std::int64_t beyond = token + FLOAT_AHEAD - end;
            fetch(beyond < 0 ? key + FLOAT_AHEAD * head_dim : next + beyond * head_dim, FLOAT_TOKENS * head_dim);
            __m256 sums[QUERIES][FLOAT_TOKENS];
            for (int q = 0; q < QUERIES; ++q)
                for (int t = 0; t < FLOAT_TOKENS; ++t) sums[q][t] = _mm256_setzero_ps();
            for (std::int64_t i = 0; i < head_dim; i += 8)
                for (int q = 0; q < QUERIES; ++q) {
                    const __m256 own = _mm256_loadu_ps(query + q * head_dim + i);
                    for (int t = 0; t < FLOAT_TOKENS; ++t)
                        sums[q][t] = _mm256_fmadd_ps(own, _mm256_loadu_ps(key + t * head_dim + i), sums[q][t]);
                }
            for (int q = 0; q < QUERIES; ++q)
                _mm_storeu_ps(scores + q * stride + token, added(sums[q][0], sums[q][1], sums[q][2], sums[q][3]));
        }
    }
}

// Adds one page's weighted values to `sums` [QUERIES, head_dim]: `VECTORS` x 8 of the head's dimensions, starting at
// `first`. What comes after the page is fetched.
template <int QUERIES, int VECTORS>
void mix_part(const float* value, const float* next, std::int64_t tokens, std::int64_t head_dim, const float* weights,
              std::int64_t stride, std::int64_t first, float* sums) {
    __m256 own[QUERIES][VECTORS];
    for (int q = 0; q < QUERIES; ++q)
        for (int v = 0; v < VECTORS; ++v) own[q][v] = _mm256_loadu_ps(sums + q * head_dim + first + 8 * v);
    for (std::int64_t token = 0; token < tokens; ++token) {
        const std::int64_t beyond = token + FLOAT_AHEAD - tokens;
        fetch((beyond < 0 ? value + (token + FLOAT_AHEAD) * head_dim : next + beyond * head_dim) + first, 8 * VECTORS);
        for (int q = 0; q < QUERIES; ++q) {
            const __m256 weight = _mm256_broadcast_ss(weights + q * stride + token);
            for (int v = 0; v < VECTORS; ++v)
                own[q][v] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(value + token * head_dim + first + 8 * v), own[q][v]);
        }
    }
    for (int q = 0; q < QUERIES; ++q)
        for (int v = 0; v < VECTORS; ++v) _mm256_storeu_ps(sums + q * head_dim + first + 8 * v, own[q][v]);
}

// Page by page, since a page stays in the core's own cache while its dimensions are gone through.
template <int QUERIES>
void mix_all(const Cached<float>& values, std::int64_t length, const float* weights, std::int64_t stride,
             const float* scale, float* out) {
    const std::int64_t head_dim = values.head_dim;
    for (std::int64_t i = 0; i < QUERIES * head_dim; ++i) out[i] = 0.0f;
    for (std::int64_t start = 0; start < length; start += values.page_tokens) {
        const float* value = values.page(start / values.page_tokens);
        const std::int64_t tokens = std::min(values.page_tokens, length - start);
        const float* next = start + tokens < length ? values.page(start / values.page_tokens + 1) : value;
        std::int64_t first = 0;
        for (; first + 32 <= head_dim; first += 32)
            mix_part<QUERIES, 4>(value, next, tokens, head_dim, weights + start, stride, first, out);
        for (; first < head_dim; first += 8)
            mix_part<QUERIES, 1>(value, next, tokens, head_dim, weights + start, stride, first, out);
    }
    for (int q = 0; q < QUERIES; ++q)
        for (std::int64_t i = 0; i < head_dim; ++i) out[q * head_dim + i] *= scale[q];
}

#else

template <int QUERIES>
void score(const Cached<float>& keys, std::int64_t length, const float* query, float* scores, std::int64_t stride,
           const float*) {
    for (std::int64_t start = 0; start < length; start += keys.page_tokens) {
        const float* key = keys.page(start / keys.page_tokens);
        const std::int64_t end = std::min(start + keys.page_tokens, length);
        for (std::int64_t token = start; token < end; ++token, key += keys.head_dim)
            for (int q = 0; q < QUERIES; ++q) {
                const float* own = query + q * keys.head_dim;
                float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
                for (std::int64_t i = 0; i < keys.head_dim; ++i) sum += key[i] * own[i];
                scores[q * stride + token] = sum;
            }
    }
}

template <int QUERIES>
void mix_all(const Cached<float>& values, std::int64_t length, const float* weights, std::int64_t stride,
             const float* scale, float* out) {
    for (std::int64_t i = 0; i < QUERIES * values.head_dim; ++i) out[i] = 0.0f;
    for (std::int64_t start = 0; start < length; start += values.page_tokens) {
        const float* value = values.page(start / values.page_tokens);
        const std::int64_t end = std::min(start + values.page_tokens, length);
        for (std::int64_t token = start; token < end; ++token, value += values.head_dim)
            for (int q = 0; q < QUERIES; ++q) {
                const float weight = weights[q * stride + token] * scale[q];
                float* sum = out + q * values.head_dim;
#pragma omp simd
                for (std::int64_t i = 0; i < values.head_dim; ++i) sum[i] += weight * value[i];
            }
    }
}

#endif

}  // namespace agentrft
