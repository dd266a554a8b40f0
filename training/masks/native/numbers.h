// Small vectors, noise, and random numbers that depend on nothing but their seed.
#pragma once
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#define FN __host__ __device__ inline
#else
#define FN inline
#endif

struct Rgb {
  float r, g, b;
};
FN Rgb operator+(Rgb a, Rgb b) { return {a.r + b.r, a.g + b.g, a.b + b.b}; }
FN Rgb operator-(Rgb a, Rgb b) { return {a.r - b.r, a.g - b.g, a.b - b.b}; }
FN Rgb operator*(Rgb a, Rgb b) { return {a.r * b.r, a.g * b.g, a.b * b.b}; }
FN Rgb operator*(Rgb a, float s) { return {a.r * s, a.g * s, a.b * s}; }
FN Rgb mix(Rgb a, Rgb b, float t) { return a + (b - a) * t; }
FN float clamped(float x, float low, float high) { return fminf(fmaxf(x, low), high); }
FN Rgb clamped(Rgb c, float low, float high) {
  return {clamped(c.r, low, high), clamped(c.g, low, high), clamped(c.b, low, high)};
}
FN float grey(Rgb c) { return (c.r + c.g + c.b) / 3; }
FN float smooth(float low, float high, float x) {
  float t = clamped((x - low) / (high - low), 0.f, 1.f);
  return t * t * (3 - 2 * t);
}

// Integer hash (the finaliser of MurmurHash3, Appleby 2011).
FN uint32_t hashed(uint32_t x) {
  x ^= x >> 16;
  x *= 0x85ebca6bu;
  x ^= x >> 13;
  x *= 0xc2b2ae35u;
  return x ^ (x >> 16);
}
FN float unit(uint32_t bits) { return (bits >> 8) * (1.f / 16777216.f); }  // 0 <= value < 1
FN float at_cell(int x, int y, uint32_t seed) {
  return unit(hashed((uint32_t)x * 0x9e3779b1u ^ hashed((uint32_t)y * 0x7feb352du ^ hashed(seed))));
}

// Value noise: random numbers at whole places, smoothly joined; 0..1.
FN float value_noise(float x, float y, uint32_t seed) {
  float fx = floorf(x), fy = floorf(y), u = x - fx, v = y - fy;
  int i = (int)fx, j = (int)fy;
  u = u * u * (3 - 2 * u);
  v = v * v * (3 - 2 * v);
  float top = at_cell(i, j, seed) * (1 - u) + at_cell(i + 1, j, seed) * u;
  float bottom = at_cell(i, j + 1, seed) * (1 - u) + at_cell(i + 1, j + 1, seed) * u;
  return top * (1 - v) + bottom * v;
}
FN float fractal_noise(float x, float y, uint32_t seed, int octaves) {  // about 0, mostly within -1..1
  float sum = 0, weight = 1, total = 0;
  for (int k = 0; k < octaves; k++) {
    sum += weight * (2 * value_noise(x, y, seed + 77u * k) - 1);
    total += weight;
    weight *= 0.6f;
    x = 2.03f * x + 13.7f;
    y = 2.03f * y - 5.1f;
  }
  return 1.6f * sum / total;
}

// Overlapping leaves, petals or pebbles, about one a cell of size 1: how light the topmost one is, 0..1; -1 in a gap.
FN float leaf_at(float x, float y, uint32_t seed) {
  int i = (int)floorf(x), j = (int)floorf(y);
  float top = -1, light = -1;
  for (int k = 0; k < 9; k++) {
    int column = i + k % 3 - 1, row = j + k / 3 - 1;
    float order = at_cell(column, row, seed);
    if (order < top) continue;
    float turn = 6.2831853f * at_cell(column, row, seed + 1), c = cosf(turn), s = sinf(turn);
    float dx = x - column - at_cell(column, row, seed + 2), dy = y - row - at_cell(column, row, seed + 3);
    float a = (c * dx + s * dy) / 0.85f, b = (c * dy - s * dx) / (0.25f + 0.4f * at_cell(column, row, seed + 4));
    float from_middle = a * a + b * b;
    if (from_middle >= 1) continue;
    top = order;
    light = clamped(at_cell(column, row, seed + 5) * (1.1f - 0.5f * from_middle) + 0.15f * a, 0, 1);
  }
  return light;
}

// Distances to the nearest and the second nearest of random points, one a cell of size 1; 0 on the border between them.
FN float from_border(float x, float y, uint32_t seed) {
  int i = (int)floorf(x), j = (int)floorf(y);
  float nearest = 9, second = 9;
  for (int k = 0; k < 9; k++) {
    int column = i + k % 3 - 1, row = j + k / 3 - 1;
    float dx = x - column - at_cell(column, row, seed), dy = y - row - at_cell(column, row, seed + 1);
    float distance = sqrtf(dx * dx + dy * dy);
    second = fminf(second, fmaxf(distance, nearest));
    nearest = fminf(nearest, distance);
  }
  return second - nearest;
}

// A stream of random numbers: the hash of a counter.
struct Random {
  uint32_t seed, count;
  FN float next() { return unit(hashed(hashed(seed) + 0x9e3779b9u * ++count)); }
  FN float between(float low, float high) { return low + (high - low) * next(); }
  FN float log_between(float low, float high) { return expf(between(logf(low), logf(high))); }
  FN bool chance(float probability) { return next() < probability; }
  FN int below(int n) { return (int)fminf(next() * n, n - 1.f); }
  FN float normal() {  // Box and Muller 1958
    float radius = sqrtf(-2 * logf(1 - next()));
    return radius * cosf(6.2831853f * next());
  }
  FN Rgb colour(float muted = 0.6f) {  // any brightness, mostly little saturation
    float value = powf(between(0.03f, 1), 0.8f), hue = between(0, 6);
    float saturation = chance(muted) ? between(0, 0.25f) : between(0.2f, 1);
    float k[3] = {fmodf(hue + 5, 6), fmodf(hue + 3, 6), fmodf(hue + 1, 6)}, c[3];
    for (int i = 0; i < 3; i++) c[i] = value * (1 - saturation * clamped(fminf(k[i], 4 - k[i]), 0, 1));
    return {c[0], c[1], c[2]};
  }
};
