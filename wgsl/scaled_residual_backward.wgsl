// Gradients of the residual add for R branch rows of D: dbranch[r] = scale[r] gamma dout[n], n = rows[r] (SUBSET) or r,
// and with GAMMA partial[p][d] = sum of scale[r] dout[n] branch[r] over the rows of part p, for gamma's gradient.
// An invocation owns one column of one part of ROWS_PER_PART rows; neighbours own neighbouring columns.
// FLOPs: 4 R D. Bytes: 12 R D.
@group(0) @binding(0) var<storage, read> dout: array<f32>;
@group(0) @binding(1) var<storage, read> branch: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbranch: array<f32>;
@group(0) @binding(6) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let d = id.x;
  if (d >= D) {
    return;
  }
  var factor = 1.0;
  if (GAMMA) {
    factor = gamma[d];
  }
  var sum = 0.0;
  let end = min(R, (id.y + 1u) * ROWS_PER_PART);
  for (var r = id.y * ROWS_PER_PART; r < end; r++) {
    var n = r;
    var s = 1.0;
    if (SUBSET) {
      n = rows[r];
      s = scale[r];
    }
    let g = s * dout[n * D + d];
    dbranch[r * D + d] = g * factor;
    sum += g * branch[r * D + d];
  }
  if (GAMMA) {
    partial[id.y * D + d] = sum;
  }
}
