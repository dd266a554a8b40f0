// One pixel of a scene: what is behind, then the layers from far to near. Also its labels.
#pragma once
#include "numbers.h"
#include "rows.h"

struct Bank {
  const uint8_t *rgba;   // (count, texels, 4): all levels of a sprite one after the other, colours premultiplied
  const int16_t *z;      // (count, texels) sprite z in 1/8192; averaged over what is opaque
  const Sprite *sprites; // (count,)
  int side;              // of the finest level, a power of two
  int levels;
  int texels;            // of all levels together
};

struct Texel {
  float alpha;
  Rgb colour;  // premultiplied
  float z;
};

FN Texel sampled(const Bank &bank, int sprite, int level, float x, float y) {
  // Bilinear; (x, y) in window coordinates; transparent outside.
  Texel out = {0, {0, 0, 0}, 0};
  if (fabsf(x) >= 1 || fabsf(y) >= 1) return out;
  int side = bank.side >> level, start = 0;
  for (int k = 0; k < level; k++) start += (bank.side >> k) * (bank.side >> k);
  float column = (x + 1) * 0.5f * side - 0.5f, row = (y + 1) * 0.5f * side - 0.5f;
  int j = (int)floorf(column), i = (int)floorf(row);
  float u = column - j, v = row - i;
  long first = (long)sprite * bank.texels + start;
  float z_sum = 0;
  for (int corner = 0; corner < 4; corner++) {
    int jj = j + (corner & 1), ii = i + (corner >> 1);
    if (jj < 0 || ii < 0 || jj >= side || ii >= side) continue;
    float weight = ((corner & 1) ? u : 1 - u) * ((corner >> 1) ? v : 1 - v) * (1.f / 255);
    const uint8_t *texel = bank.rgba + 4 * (first + ii * side + jj);
    out.colour = out.colour + Rgb{(float)texel[0], (float)texel[1], (float)texel[2]} * weight;
    out.alpha += weight * texel[3];
    z_sum += weight * texel[3] * bank.z[first + ii * side + jj] * (1.f / 8192);
  }
  out.z = out.alpha > 0 ? z_sum / out.alpha : 0;
  return out;
}

struct View {
  float x, y;          // view frame
  float right, down;   // the ray is (right, down, 1)
};

FN View view_of(const Scene &scene, float column, float row, int side) {
  float x = column / side - 0.5f, y = row / side - 0.5f;
  View v;
  v.x = scene.roll_cos * x + scene.roll_sin * y;
  v.y = scene.roll_cos * y - scene.roll_sin * x;
  v.right = v.x / scene.focal;
  v.down = v.y / scene.focal;
  return v;
}

struct Behind {
  Rgb colour;
  float depth;
  int label;
  bool ground;
};

// Leaves over smaller leaves, in clumps of light and shade.
FN Rgb leaves_at(const Surface &s, float x, float y, uint32_t seed) {
  float a = (x * s.turn_cos + y * s.turn_sin) * s.frequency / s.aspect, b = (y * s.turn_cos - x * s.turn_sin) * s.frequency;
  float light = leaf_at(a, b, seed);
  if (light < 0) light = 0.6f * fmaxf(leaf_at(2.3f * a, 2.3f * b, seed + 7), 0.f);
  float clump = 0.75f + 0.4f * fractal_noise(0.2f * a, 0.2f * b, seed + 17, 3);
  float kind = at_cell((int)floorf(0.37f * a), (int)floorf(0.37f * b), seed + 19);
  return mix(Rgb{s.r, s.g, s.b}, Rgb{s.r2, s.g2, s.b2}, 0.5f * light + 0.5f * kind) * (clump * (0.25f + light));
}

FN Rgb pattern_at(const Surface &s, float x, float y, uint32_t seed) {
  Rgb first = {s.r, s.g, s.b}, second = {s.r2, s.g2, s.b2};
  float a = (x * s.turn_cos + y * s.turn_sin) * s.frequency, b = (y * s.turn_cos - x * s.turn_sin) * s.frequency;
  float row = floorf(b), share = 0;
  float along = a / s.aspect + (s.pattern == 1 ? 0.37f * row : 0.f), cell = floorf(along);
  if (s.pattern == 1 || s.pattern == 2) {
    bool joint = b - row < s.joint || along - cell < s.joint / s.aspect;
    share = joint ? 1.f : 0.5f * at_cell((int)cell, (int)row, seed);
  } else if (s.pattern == 3) {
    share = fmodf(fabsf(row + cell), 2);
  } else if (s.pattern == 4) {
    share = 0.5f + 0.5f * sinf(6.2831853f * b);
  } else if (s.pattern == 5) {
    share = clamped(0.5f + 0.7f * fractal_noise(a, b, seed, 4), 0, 1);
  } else if (s.pattern == 6) {
    return leaves_at(s, x, y, seed);
  } else if (s.pattern == 7) {  // a pane in each cell, some dark, some with the sky in them
    float u = along - cell, v = b - row;
    float margin = 0.15f + 2 * s.joint;
    if (u > margin && u < 1 - margin && v > margin && v < 1 - 0.7f * margin)
      return second * (0.3f + at_cell((int)cell, (int)row, seed) + 0.3f * v);
  }
  Rgb colour = mix(first, second, share);
  if (s.grain > 0) colour = colour * (1 + s.grain * fractal_noise(x * s.grain_frequency, y * s.grain_frequency, seed + 5, 4));
  return colour;
}

FN Rgb sky_at(const Scene &scene, float right, float up, uint32_t seed) {
  float cloud = clamped(fractal_noise(3 * right, 6 * up, seed + 11, 4), 0, 1);
  return Rgb{scene.sky_r, scene.sky_g, scene.sky_b} * (1.1f - 0.3f * clamped(up, 0, 1)) + Rgb{1, 1, 1} * (0.35f * cloud);
}

// The rectangle at (x, y) of a wall or the ground; false when the point is outside it.
FN bool panel_at(const Panel &p, float x, float y, uint32_t seed, Rgb *colour) {
  float a = (x - p.x) / p.half_width, b = (y - p.y) / p.half_height;
  if (fmaxf(fabsf(a), fabsf(b)) >= 1) return false;
  bool frame = fmaxf(fabsf(a), fabsf(b)) > 1 - p.frame;
  if (p.bars > 0) {
    float u = (a + 1) * 0.5f * (p.bars + 1), v = (b + 1) * 0.5f * (p.bars + 1);
    frame = frame || fabsf(u - roundf(u)) < 0.3f * p.frame * (p.bars + 1) || fabsf(v - roundf(v)) < 0.3f * p.frame * (p.bars + 1);
  }
  if (frame) {
    *colour = {p.frame_r, p.frame_g, p.frame_b};
    return true;
  }
  Rgb inside = {p.r, p.g, p.b};
  float shade = p.structure * fractal_noise(2.5f * a + p.x, 2.5f * b, seed + 23, 4);
  *colour = p.glow > 0 ? inside * (1 + 0.25f * b) + Rgb{0.5f, 0.7f, 0.4f} * fmaxf(shade - 0.3f * b, 0) : inside * (1 + shade);
  return true;
}

FN Behind behind(const Scene &scene, const Surface *surfaces, const Panel *panels, View v) {
  uint32_t seed = (uint32_t)scene.seed;
  float fall = v.down * scene.pitch_cos + scene.pitch_sin;     // downward part of the ray
  float ahead = scene.pitch_cos - v.down * scene.pitch_sin;    // and its part along the ground
  Behind out = {{0, 0, 0}, FAR_DEPTH, 0, false};
  int hit = -1;
  if (fall > 1 / FAR_DEPTH) {
    out.depth = 1 / fall;
    hit = 0;
  }
  if (scene.wall > 0) {
    float toward = v.right * scene.wall_sin + ahead * scene.wall_cos;
    if (toward > 0 && scene.wall_distance / toward < out.depth) {
      out.depth = scene.wall_distance / toward;
      hit = 1;
    }
    float aside = v.right * scene.wall_cos - ahead * scene.wall_sin;
    if (scene.corner > 0 && aside > 0 && scene.corner_distance / aside < out.depth) {
      out.depth = scene.corner_distance / aside;
      hit = 2;
    }
  }
  if (scene.thicket_distance > 0 && ahead > 0 && scene.thicket_distance / ahead < out.depth) {
    float depth = scene.thicket_distance / ahead, tall = scene.thicket_height;
    float across = depth * v.right, up = 1 - depth * fall, leaf = 1 / surfaces[3].frequency;
    float top = tall * (1 + 0.6f * fractal_noise(0.7f * across / tall, 0, seed + 51, 3)) + leaf * fractal_noise(across / leaf, up / leaf, seed + 53, 2);
    bool gap = leaf_at(across / leaf, up / leaf, seed + 3) < 0 && fractal_noise(across / tall, up / tall, seed + 57, 3) > 0.35f;
    if (up < top && !gap) {
      out.colour = leaves_at(surfaces[3], across, up, seed + 3) * (0.7f + 0.3f * up / fmaxf(top, 0.1f));
      out.depth = depth;
      return out;
    }
  }
  float x = out.depth * v.right, z = out.depth * ahead, height = 1 - out.depth * fall;
  if (hit == 1) x = x * scene.wall_cos - z * scene.wall_sin;
  if (hit == 2) x = x * scene.wall_sin + z * scene.wall_cos;
  float y = hit == 0 ? z : height;
  if (scene.fractal == 2) {
    out.colour = leaves_at(surfaces[0], 4 * v.x, 4 * v.y, seed);
    out.ground = hit == 0;
    return out;
  }
  if (scene.fractal > 0) {
    float share = smooth(-0.4f, 0.4f, fractal_noise(surfaces[0].frequency * 2 * v.x, surfaces[0].frequency * 2 * v.y, seed, 6));
    const Surface &s = surfaces[0];
    out.colour = mix(Rgb{s.r, s.g, s.b}, Rgb{s.r2, s.g2, s.b2}, share);
    out.ground = hit == 0;
    return out;
  }
  if (hit < 0) {
    out.colour = sky_at(scene, v.right, -fall, seed);
    return out;
  }
  out.ground = hit == 0;
  out.colour = pattern_at(surfaces[hit], x, y, seed + hit);
  for (int k = 0; k < PANELS; k++) {
    Rgb colour;
    if (panels[k].on == (hit == 0 ? 2 : 1) && hit < 2 && panel_at(panels[k], x, y, seed + 100 * k, &colour)) {
      out.colour = colour;
      out.label = (int)panels[k].label;
    }
  }
  if (hit == 0 && scene.sun > 0) {  // light through a window: no object, whatever its outline
    float a = fabsf(x - scene.sun_x + 0.4f * (z - scene.sun_z)), b = fabsf(z - scene.sun_z);
    float inside = smooth(1.05f, 0.95f, fmaxf(a, b) / scene.sun_size);
    out.colour = out.colour * (1 + scene.sun * inside);
  }
  return out;
}

struct Pixel {
  Rgb colour;
  int label;
  float depth;
  float rise;  // sine of the ray's angle above the horizon
  bool ground;
};

// `coverage` (LAYERS + 1), or null: what share of the pixel shows the background and each layer.
FN Pixel composed(const Scene &scene, const Surface *surfaces, const Panel *panels, const Layer *layers,
                  const Bank &bank, float column, float row, int side, float *coverage) {
  View v = view_of(scene, column, row, side);
  Behind back = behind(scene, surfaces, panels, v);
  Pixel out = {back.colour, back.label, back.depth, 0, back.ground};
  float fall = v.down * scene.pitch_cos + scene.pitch_sin;
  out.rise = -fall / sqrtf(1 + v.right * v.right + v.down * v.down);
  float front = 1e9f;  // depth of the nearest layer so far
  if (coverage) {
    coverage[0] = 1;
    for (int k = 1; k <= LAYERS; k++) coverage[k] = 0;
  }
  Rgb mean = {surfaces[0].r, surfaces[0].g, surfaces[0].b};
  uint32_t seed = (uint32_t)scene.seed;
  for (int k = 0; k < LAYERS; k++) {
    const Layer &l = layers[k];
    if (l.sprite < 0) continue;
    int sprite = (int)l.sprite;
    float foot_depth = l.depth;
    if (l.shadow > 0) {
      float sx = l.shadow_xx * v.x + l.shadow_xy * v.y + l.shadow_x0, sy = l.shadow_yx * v.x + l.shadow_yy * v.y + l.shadow_y0;
      if (front > 0.9f * foot_depth)
        out.colour = out.colour * (1 - l.shadow * sampled(bank, sprite, (int)l.shadow_level, sx, sy).alpha);
    }
    if (l.contact > 0 && front > 0.9f * foot_depth) {
      float a = (v.x - l.contact_x) / l.contact_half_width, b = (v.y - l.contact_y) / l.contact_half_height;
      out.colour = out.colour * (1 - l.contact * expf(-1.5f * (a * a + b * b)));
    }
    float x = l.xx * v.x + l.xy * v.y + l.x0, y = l.yx * v.x + l.yy * v.y + l.y0;
    if (l.mirror > 0 && out.ground && front > 1e8f) {
      Texel t = sampled(bank, sprite, (int)l.level, x, 2 * l.foot_row - y);
      float fading = l.mirror * clamped(1 - (y - l.foot_row), 0, 1);
      out.colour = out.colour * (1 - t.alpha * fading) + t.colour * fading;
    }
    Texel t = sampled(bank, sprite, (int)l.level, x, y);
    if (t.alpha <= 0) continue;
    float depth = l.depth - l.depth_per_z * t.z;
    if (depth < NEAR_DEPTH) continue;  // beside or behind the camera
    if (depth > front) continue;       // behind the wall of what holds it, or the arm of the chair
    Rgb colour = t.colour * Rgb{l.tint_r, l.tint_g, l.tint_b} * l.brightness;
    if (l.print > 0) {
      float a = l.print_frequency * x, b = l.print_frequency * y, wave = 0.5f + 0.5f * sinf(3 * a + 2.5f * fractal_noise(0.6f * a, 0.6f * b, seed + 37 * k, 2));
      float dark = l.print == 1 ? smooth(0.08f, 0.16f, from_border(a, b, seed + 37 * k)) : smooth(0.4f, 0.6f, wave);
      colour = colour * (1 - l.print_strength * dark);
    }
    if (l.grain > 0) colour = colour * (1 + l.grain * fractal_noise(x * l.grain_frequency, y * l.grain_frequency, seed + 31 * k, 3));
    colour = mix(colour, mean * t.alpha, l.fade);
    out.colour = out.colour * (1 - t.alpha) + clamped(colour, 0, 1.2f);
    if (coverage) {
      for (int n = 0; n <= LAYERS; n++) coverage[n] *= 1 - t.alpha;
      coverage[k + 1] += t.alpha;
    }
    if (t.alpha > 0.5f) {
      out.label = (int)l.label;
      front = depth;
      out.depth = fminf(depth, FAR_DEPTH);
      out.ground = false;
    }
  }
  return out;
}
