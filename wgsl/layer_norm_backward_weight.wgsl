// Partial sums of layer-norm's weight and bias gradients: partial[0][p][c] = sum of dy * xhat, partial[1][p][c] = sum of
// dy, over the R rows of part p. sum_partials.wgsl adds the PARTS parts in order.
// An invocation owns one column of one part; neighbours own neighbouring columns. FLOPs: 5 R D. Bytes: 4 (2 R D + 4 PARTS D).
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> statistics: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> rows: array<u32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> partial: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let c = id.x;
  let part = id.y;
  if (c >= D) {
    return;
  }
  var dweight = 0.0;
  var dbias = 0.0;
  let end = min(R, (part + 1u) * ROWS_PER_PART);
  for (var r = part * ROWS_PER_PART; r < end; r++) {
    var source = r;
    if (GATHER) {
      source = rows[r];
    }
    let s = statistics[r];
    let g = dy[r * D + c];
    dweight += g * (x[source * D + c] - s.x) * s.y;
    dbias += g;
  }
  partial[part * D + c] = dweight;
  partial[(PARTS + part) * D + c] = dbias;
}
