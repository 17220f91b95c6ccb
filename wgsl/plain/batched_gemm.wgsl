// c = ALPHA op(a) op(b) for every head of every sequence: the products of attention whose scores lie in memory.
// A workgroup owns a 64 x 64 tile of one product, an invocation 4 x 4 of it; tiles of 16 k are staged in workgroup memory
// (8.5 KiB). FLOPs: 2 M N K a product. Bytes: 4 (M K + K N + M N) a product.
// include plain/lib/batched_matrices.wgsl

// Tiles as [16 k][64 rows or columns], four neighbours to a vector; the vector to spare keeps stores along k off one bank.
const PITCH: u32 = 17u;
var<workgroup> tile_a: array<vec4<f32>, 16u * PITCH>;
var<workgroup> tile_b: array<vec4<f32>, 16u * PITCH>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) index: u32) {
  let m0 = group.y * 64u;
  let n0 = group.x * 64u;
  let start_a = start_of(sizes.a, group.z);
  let start_b = start_of(sizes.b, group.z);
  let start_c = start_of(sizes.c, group.z);
  let tm = index / 16u;
  let tn = index % 16u;
  // Neighbouring invocations stage neighbouring addresses: 16 along k or 64 across, four times.
  var m_a = index / 16u;
  var k_a = index % 16u;
  var step_m = 16u;
  var step_k_a = 0u;
  if (LAYOUT == TN) {
    m_a = index % 64u;
    k_a = index / 64u;
    step_m = 0u;
    step_k_a = 4u;
  }
  var n_b = index % 64u;
  var k_b = index / 64u;
  var step_n = 0u;
  var step_k_b = 4u;
  if (LAYOUT == NT) {
    n_b = index / 16u;
    k_b = index % 16u;
    step_n = 16u;
    step_k_b = 0u;
  }
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  for (var k0 = 0u; k0 < sizes.K; k0 += 16u) {
    for (var i = 0u; i < 4u; i++) {
      let m = m_a + i * step_m;
      let ka = k_a + i * step_k_a;
      var value = 0.0;
      if (m0 + m < sizes.M && k0 + ka < sizes.K) {
        if (LAYOUT == TN) {
          value = a[start_a + (k0 + ka) * sizes.a.row + m0 + m];
        } else {
          value = a[start_a + (m0 + m) * sizes.a.row + k0 + ka];
        }
      }
      tile_a[ka * PITCH + m / 4u][m % 4u] = value;
      let n = n_b + i * step_n;
      let kb = k_b + i * step_k_b;
      value = 0.0;
      if (n0 + n < sizes.N && k0 + kb < sizes.K) {
        if (LAYOUT == NT) {
          value = b[start_b + (n0 + n) * sizes.b.row + k0 + kb];
        } else {
          value = b[start_b + (k0 + kb) * sizes.b.row + n0 + n];
        }
      }
      tile_b[kb * PITCH + n / 4u][n % 4u] = value;
    }
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let va = tile_a[k * PITCH + tm];
      let vb = tile_b[k * PITCH + tn];
      acc0 += va.x * vb;
      acc1 += va.y * vb;
      acc2 += va.z * vb;
      acc3 += va.w * vb;
    }
    workgroupBarrier();
  }
  store_results(start_c, m0 + tm * 4u, n0 + tn * 4u, array<vec4<f32>, 4>(acc0, acc1, acc2, acc3));
}
