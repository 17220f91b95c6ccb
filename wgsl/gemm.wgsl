// out[M, N] = op(a) op(b), then the epilogue. LAYOUT: NN a[M,K] b[K,N]; NT a[M,K] b[N,K]; TN a[K,M] b[K,N]. Any sizes.
// A workgroup owns a 64 x 64 tile, an invocation 4 x 4 of it; tiles of 16 k are staged in workgroup memory (8 KiB).
// Workgroup z owns part z of K (split-K): it writes its own M x N partial, which sum_partials adds in order.
// FLOPs: 2 M N K. Bytes: those of a, b and out.
// include lib/gemm_epilogue.wgsl

const NN = 0;
const NT = 1;
const TN = 2;
// Tiles as [16 k][64 rows or columns], four neighbours to a vector.
var<workgroup> tile_a: array<vec4<f32>, 256>;
var<workgroup> tile_b: array<vec4<f32>, 256>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let m0 = group.y * 64u;
  let n0 = group.x * 64u;
  let first = group.z * sizes.k_per_part;
  let end = min(first + sizes.k_per_part, sizes.K);
  let tm = index / 16u;
  let tn = index % 16u;
  // Neighbouring invocations stage neighbouring addresses, which depends on what is contiguous.
  var row_a = index / 4u;
  var k_a = index % 4u * 4u;
  if (LAYOUT == TN) {
    row_a = index % 16u * 4u;
    k_a = index / 16u;
  }
  var row_b = index % 16u * 4u;
  var k_b = index / 16u;
  if (LAYOUT == NT) {
    row_b = index / 4u;
    k_b = index % 4u * 4u;
  }
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  for (var k0 = first; k0 < end; k0 += 16u) {
    let va = a_quad(m0 + row_a, k0 + k_a, end);
    if (LAYOUT == TN) {
      tile_a[k_a * 16u + row_a / 4u] = va;
    } else {
      for (var i = 0u; i < 4u; i++) {
        tile_a[(k_a + i) * 16u + row_a / 4u][row_a % 4u] = va[i];
      }
    }
    let vb = b_quad(n0 + row_b, k0 + k_b, end);
    if (LAYOUT == NT) {
      for (var i = 0u; i < 4u; i++) {
        tile_b[(k_b + i) * 16u + row_b / 4u][row_b % 4u] = vb[i];
      }
    } else {
      tile_b[k_b * 16u + row_b / 4u] = vb;
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let va = tile_a[k * 16u + tm];
      let vb = tile_b[k * 16u + tn];
      acc0 += va.x * vb;
      acc1 += va.y * vb;
      acc2 += va.z * vb;
      acc3 += va.w * vb;
    }
    workgroupBarrier();
  }
  let m = m0 + tm * 4u;
  let n = n0 + tn * 4u;
  if (n < sizes.N) {
    let rows = array<vec4<f32>, 4>(acc0, acc1, acc2, acc3);
    for (var i = 0u; i < min(4u, max(sizes.M, m) - m); i++) {
      finish_quad(group.z, m + i, n, rows[i]);
    }
  }
}
