// out[s] = (x[s LENGTH], mean over TOKENS rows of x[s LENGTH + FIRST + t]): the CLS token of every sequence and the mean of
// its patch tokens side by side, 2 D columns, D = 4 QUADS. FIRST counts CLS and registers.
// A workgroup owns COLUMN_LANES quads of one sequence.
// FLOPs: TOKENS D a sequence. Bytes: those of CLS and patch tokens, and of out.
// include lib/columns.wgsl
@group(0) @binding(0) var<storage, read> x: array<Quad>;
@group(0) @binding(1) var<storage, read_write> out: array<Quad>;

@compute @workgroup_size(COLUMN_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let c = group.x * COLUMN_LANES + index % COLUMN_LANES;
  let sequence = group.y;
  var sum = vec4<f32>();
  if (c < QUADS) {
    for (var t = index / COLUMN_LANES; t < TOKENS; t += ROW_LANES) {
      sum += unpack_quad(x[(sequence * LENGTH + FIRST + t) * QUADS + c]);
    }
  }
  sum = column_sum(index, sum);
  if (c < QUADS && index < COLUMN_LANES) {
    out[sequence * 2u * QUADS + c] = x[sequence * LENGTH * QUADS + c];
    out[(sequence * 2u + 1u) * QUADS + c] = pack_quad(sum / f32(TOKENS));
  }
}
