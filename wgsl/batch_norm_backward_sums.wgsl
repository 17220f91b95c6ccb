// Partial sums over rows p, p + parts, ... of dy [rows, columns]: partial[p, 0, c] of dy times the normalised x (the
// gradient of the weight), partial[p, 1, c] of dy (that of the bias). sum_partials.wgsl adds the parts.
// An invocation owns one column of one part. FLOPs: 5 a value. Bytes: 8 a value, 8 parts columns.
struct Sizes {
  rows: u32,
  columns: u32,
  parts: u32,
}
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> mean: array<f32>;
@group(0) @binding(2) var<storage, read> variance: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;
@group(0) @binding(5) var<storage, read> sizes: Sizes;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let part = i / sizes.columns;
  let c = i % sizes.columns;
  if (part >= sizes.parts) {
    return;
  }
  let rstd = inverseSqrt(variance[c] + EPS);
  var scaled = 0.0;
  var plain = 0.0;
  for (var r = part; r < sizes.rows; r += sizes.parts) {
    let at = r * sizes.columns + c;
    scaled += dy[at] * (x[at] - mean[c]) * rstd;
    plain += dy[at];
  }
  partial[2u * part * sizes.columns + c] = scaled;
  partial[(2u * part + 1u) * sizes.columns + c] = plain;
}
