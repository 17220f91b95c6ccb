// Cross-entropy of rows of C logits against integer labels, with label smoothing e as PyTorch has it, and its gradient in the
// same visit: loss = lse(z) - (1 - e) z_y - e / C sum z, dz = upstream (softmax(z) - e / C - (1 - e) [c = y]). Also the rank
// of the truth: how many classes score above it (of equal ones those of lower number), so rank < 5 is a top-5 hit.
// A row is one of `heads` heads of a sample; it has `pitch` places, of which those past C are ignored and get gradient 0.
// A label of C or more is none: loss and gradient 0, rank C. A logit that is not finite: loss and gradient infinite, rank C.
// A workgroup owns ROWS rows, LANES invocations each, and reads them three times.
// FLOPs: 12 C a row, 7 C without gradient. Bytes: those of the logits, of their gradient, and 16 a row.
// include lib/rows.wgsl
// include lib/row_max.wgsl
struct Sizes {
  rows: u32,
  heads: u32,
  classes: u32,
  // Quads of a row.
  pitch: u32,
  smoothing: f32,
  infinity: f32,
}
@group(0) @binding(0) var<storage, read> logits: array<Quad>;
@group(0) @binding(1) var<storage, read> labels: array<u32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(0) @binding(3) var<storage, read_write> rank: array<u32>;
@group(0) @binding(SIZES) var<storage, read> sizes: Sizes;
const ONES = vec4<f32>(1.0);

fn classes_of(q: u32) -> vec4<u32> {
  return 4u * q + vec4<u32>(0u, 1u, 2u, 3u);
}

@compute @workgroup_size(ROW_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) index: u32) {
  // Rows past the last one work on it too, so that all invocations reach the barriers, and write nothing.
  let row = (group.y * groups.x + group.x) * ROWS + index / LANES;
  let here = min(row, sizes.rows - 1u);
  let base = here * sizes.pitch;
  let quads = (sizes.classes + 3u) / 4u;
  let lane = index % LANES;
  let label = labels[here / sizes.heads];
  let known = label < sizes.classes;
  let y = select(0u, label, known);
  let truth = unpack_quad(logits[base + y / 4u])[y % 4u];

  var largest = truth;
  var unusable = 0.0;
  for (var q = lane; q < quads; q += LANES) {
    let z = select(vec4<f32>(truth), unpack_quad(logits[base + q]), classes_of(q) < vec4<u32>(sizes.classes));
    largest = max(largest, max(max(z.x, z.y), max(z.z, z.w)));
    // By exponent bits: a comparison may assume that there is no NaN.
    if (any((bitcast<vec4<u32>>(z) & vec4<u32>(0x7f800000u)) == vec4<u32>(0x7f800000u))) {
      unusable = 1.0;
    }
  }
  let row_largest = row_max(index, largest);
  let broken = row_sum(index, unusable) > 0.0;

  var sum = 0.0;
  var below = 0.0;
  var ahead = 0.0;
  for (var q = lane; q < quads; q += LANES) {
    let c = classes_of(q);
    let inside = c < vec4<u32>(sizes.classes);
    let z = unpack_quad(logits[base + q]);
    sum += dot(select(vec4<f32>(0.0), exp(z - row_largest), inside), ONES);
    below += dot(select(vec4<f32>(0.0), row_largest - z, inside), ONES);
    let beats = (z > vec4<f32>(truth)) | ((z == vec4<f32>(truth)) & (c < vec4<u32>(y)));
    ahead += dot(select(vec4<f32>(0.0), ONES, beats & inside), ONES);
  }
  let log_sum = log(row_sum(index, sum));
  let row_below = row_sum(index, below);
  let row_ahead = row_sum(index, ahead);
  if (row >= sizes.rows) {
    return;
  }
  let even = sizes.smoothing / f32(sizes.classes);
  if (lane == 0u) {
    var value = log_sum + (1.0 - sizes.smoothing) * (row_largest - truth) + even * row_below;
    value = select(value, sizes.infinity, broken);
    loss[row] = select(0.0, value, known);
    rank[row] = select(sizes.classes, u32(row_ahead), known && !broken);
  }
  if (GRADIENT) {
    let scale = upstream_of(row);
    for (var q = lane; q < sizes.pitch; q += LANES) {
      let c = classes_of(q);
      let hit = select(vec4<f32>(0.0), vec4<f32>(1.0 - sizes.smoothing), c == vec4<u32>(y));
      var d = scale * (exp(unpack_quad(logits[base + q]) - row_largest - log_sum) - even - hit);
      d = select(d, vec4<f32>(sizes.infinity), broken);
      store_gradient(base + q, select(vec4<f32>(0.0), d, (c < vec4<u32>(sizes.classes)) & vec4<bool>(known)));
    }
  }
}
