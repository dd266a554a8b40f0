// From composed pixels to a photo: blur, light, colour, noise, compression; or a line drawing.
#pragma once
#include "compose.h"

constexpr float MOST_DEFOCUS = 3;  // pixels

struct Picture {
  const float *rgb;       // (3, side, side)
  const uint8_t *labels;  // (side, side)
  const float *inverse;   // (side, side) 1 / depth
  int side;
};

FN Rgb pixel_of(const Picture &p, int i, int j) {
  i = i < 0 ? 0 : i >= p.side ? p.side - 1 : i;
  j = j < 0 ? 0 : j >= p.side ? p.side - 1 : j;
  int area = p.side * p.side, at = i * p.side + j;
  return {p.rgb[at], p.rgb[area + at], p.rgb[2 * area + at]};
}

FN Rgb blurred(const Picture &p, int i, int j, float deviation) {
  if (deviation < 0.2f) return pixel_of(p, i, j);
  int radius = (int)fminf(ceilf(2 * deviation), 6);
  float total = 0, fall = -0.5f / (deviation * deviation);
  Rgb sum = {0, 0, 0};
  for (int di = -radius; di <= radius; di++)
    for (int dj = -radius; dj <= radius; dj++) {
      float weight = expf(fall * (di * di + dj * dj));
      sum = sum + pixel_of(p, i + di, j + dj) * weight;
      total += weight;
    }
  return sum * (1 / total);
}

FN int label_of(const Picture &p, int i, int j) {
  return p.labels[(i < p.side ? i : p.side - 1) * p.side + (j < p.side ? j : p.side - 1)];
}

FN Rgb drawn(const Scene &scene, const Picture &p, int i, int j) {
  float here = grey(blurred(p, i, j, 0.7f)), edge = 0;
  for (int k = 0; k < 2; k++) {
    float step = fabsf(grey(blurred(p, i + k, j + 1 - k, 0.7f)) - here);
    edge += 3 * step + (label_of(p, i + k, j + 1 - k) != label_of(p, i, j) ? 1.f : 0.f);
  }
  float paper = 1 - scene.line * clamped(edge, 0, 1);
  return Rgb{scene.balance_r, scene.balance_g, scene.balance_b} * clamped(paper, 0, 1);
}

FN Rgb developed(const Scene &scene, const Picture &p, int i, int j) {
  if (scene.drawing > 0) return clamped(drawn(scene, p, i, j), 0, 1);
  uint32_t seed = (uint32_t)scene.seed;
  float x = (j + 0.5f) / p.side - 0.5f, y = (i + 0.5f) / p.side - 0.5f;
  float away = scene.defocus * fabsf(p.inverse[i * p.side + j] - scene.focus);
  Rgb c = blurred(p, i, j, sqrtf(scene.blur * scene.blur + fminf(away * away, MOST_DEFOCUS * MOST_DEFOCUS)));
  if (scene.patches > 0) {
    float shade = fractal_noise(scene.patches_scale * x, scene.patches_scale * y, seed + 41, 3);
    c = c * (1 - scene.patches * smooth(-0.25f, 0.45f, shade));
  }
  if (scene.haze > 0) {
    float far = 1 - expf(-scene.haze / fmaxf(p.inverse[i * p.side + j], 1 / FAR_DEPTH));
    c = mix(c, Rgb{scene.haze_r, scene.haze_g, scene.haze_b}, far);
  }
  c = c * ((1 - scene.vignette * (x * x + y * y)) * scene.exposure) * Rgb{scene.balance_r, scene.balance_g, scene.balance_b};
  c = clamped(c, 1e-4f, 1);
  c = {powf(c.r, scene.gamma), powf(c.g, scene.gamma), powf(c.b, scene.gamma)};
  c = (c - Rgb{0.5f, 0.5f, 0.5f}) * scene.contrast + Rgb{0.5f, 0.5f, 0.5f};
  float g = grey(c);
  c = mix(Rgb{g, g, g}, c, scene.saturation);
  if (scene.noise > 0) {
    Random random = {seed ^ hashed((uint32_t)(i * p.side + j)), 0};
    c = c + Rgb{random.normal(), random.normal(), random.normal()} * scene.noise;
  }
  return clamped(c, 0, 1);
}

// What compression leaves of an 8 x 8 block of one channel: its cosine transform, rounded, coarser for fine detail.
FN void compressed(float *pixels, int stride, float step) {
  float basis[8][8], middle[8][8], block[8][8];
  for (int k = 0; k < 8; k++)
    for (int n = 0; n < 8; n++) basis[k][n] = (k ? 0.5f : 0.35355339f) * cosf((2 * n + 1) * k * 0.19634954f);
  for (int k = 0; k < 8; k++)
    for (int j = 0; j < 8; j++) {
      middle[k][j] = 0;
      for (int n = 0; n < 8; n++) middle[k][j] += basis[k][n] * pixels[n * stride + j];
    }
  for (int k = 0; k < 8; k++)
    for (int m = 0; m < 8; m++) {
      float value = 0, size = step * (0.5f + 0.5f * (k + m));
      for (int n = 0; n < 8; n++) value += basis[m][n] * middle[k][n];
      block[k][m] = rintf(value / size) * size;
    }
  for (int n = 0; n < 8; n++)
    for (int m = 0; m < 8; m++) {
      middle[n][m] = 0;
      for (int k = 0; k < 8; k++) middle[n][m] += basis[k][n] * block[k][m];
    }
  for (int n = 0; n < 8; n++)
    for (int j = 0; j < 8; j++) {
      float value = 0;
      for (int m = 0; m < 8; m++) value += basis[m][j] * middle[n][m];
      pixels[n * stride + j] = clamped(value, 0, 1);
    }
}
