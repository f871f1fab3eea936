// What the operators share. bfloat16 travels as its 16 bits.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512BF16__) && defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#define HAS_BF16_DOT 1
#else
#define HAS_BF16_DOT 0
#endif

using bf16 = std::uint16_t;

namespace agentrft {

constexpr std::int64_t PARALLEL_FROM = 1 << 14;  // elements; fewer are not worth waking the other threads

inline float widen(bf16 value) {
    const std::uint32_t bits = static_cast<std::uint32_t>(value) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline bf16 narrow(float value) {  // to nearest, ties to even
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<bf16>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

inline float rounded(float value) { return widen(narrow(value)); }

// e^x to 2 ulp, in a form that compilers vectorise: 2^n times a polynomial on [-0.5, 0.5] octaves.
inline float exponential(float x) {
    const float octaves = std::min(126.0f, std::max(-126.0f, x * 1.44269504f));
    const float shifted = octaves + 12582912.0f;  // 1.5 * 2^23: its last bits now hold the nearest integer
    const float fraction = octaves - (shifted - 12582912.0f);
    float sum = 1.5403530e-4f;
    sum = sum * fraction + 1.3333558e-3f;
    sum = sum * fraction + 9.6181291e-3f;
    sum = sum * fraction + 5.5504109e-2f;
    sum = sum * fraction + 2.4022651e-1f;
    sum = sum * fraction + 6.9314718e-1f;
    sum = sum * fraction + 1.0f;
    std::uint32_t exponent;
    std::memcpy(&exponent, &shifted, sizeof exponent);
    std::uint32_t bits;
    std::memcpy(&bits, &sum, sizeof bits);
    bits += exponent << 23;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

#if HAS_BF16_DOT

// To bfloat16, in the low half of each lane.
inline __m512i narrow16(__m512 value) {
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return _mm512_srli_epi32(up, 16);
}

inline void store_narrow(bf16* to, __m512 values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtepi32_epi16(narrow16(values)));
}

#endif

// One sequence and one key-value head of a paged cache: page p begins at `data + p * page_stride`, and holds
// [kv_heads, page_tokens, head_dim]; `table` has the sequence's pages in order.
template <class T>
struct Cached {
    const T* data;
    std::int64_t page_stride;
    const std::int64_t* table;
    std::int64_t page_tokens, head_dim, head;

    const T* page(std::int64_t index) const {
        return data + table[index] * page_stride + head * page_tokens * head_dim;
    }
};

}  // namespace agentrft
