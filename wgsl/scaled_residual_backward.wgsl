// Gradients of the residual add for R branch rows of D = 4 QUADS: dbranch[r] = scale[r] gamma dout[n], n = rows[r] (SUBSET)
// or r; with GAMMA_GRADIENT also partial[p][d] = sum of scale[r] dout[n] branch[r] over the rows of part p, for gamma's.
// A workgroup owns COLUMN_LANES quads of columns of one part of ROWS_PER_PART rows.
// FLOPs: 2 R D, 4 R D with GAMMA_GRADIENT. Bytes: 2 R D times an element's, 4 D with GAMMA, 8 R with SUBSET, and R D times
// an element's + 4 PARTS D more with GAMMA_GRADIENT.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> dout: array<Quad>;
@group(0) @binding(1) var<storage, read> branch: array<Quad>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
@group(0) @binding(4) var<storage, read> scale: array<f32>;
@group(0) @binding(5) var<storage, read_write> dbranch: array<Quad>;
@group(0) @binding(6) var<storage, read_write> partial: array<vec4<f32>>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let part = group.y;
  var sum = vec4<f32>();
  if (c < QUADS) {
    var factor = vec4<f32>(1.0);
    if (GAMMA) {
      factor = gamma[c];
    }
    let end = min(R, (part + 1u) * ROWS_PER_PART);
    for (var r = part * ROWS_PER_PART + index / COLUMN_LANES; r < end; r += ROW_LANES) {
      var n = r;
      var s = 1.0;
      if (SUBSET) {
        n = rows[r];
        s = scale[r];
      }
      let g = s * unpack_quad(dout[n * QUADS + c]);
      dbranch[r * QUADS + c] = pack_quad(g * factor);
      if (GAMMA_GRADIENT) {
        sum += g * unpack_quad(branch[r * QUADS + c]);
      }
    }
  }
  if (GAMMA_GRADIENT) {
    sum = column_sum(index, sum);
    if (c < QUADS && index < COLUMN_LANES) {
      partial[part * QUADS + c] = sum;
    }
  }
}
