// As batched_gemm.wgsl, for adapters that run on a CPU: no workgroup memory, since a barrier costs more there than a load.
// An invocation owns 8 x 4 results of one product. Rows and columns past the end read the last one and are not written.
// FLOPs: 2 M N K a product. Bytes: 4 (M K + K N + M N) a product.
// include plain/lib/batched_matrices.wgsl

// Where the K values of row or column `at` of an operand begin. `along_k`: they are neighbours; else `at` is the column.
fn line_of(strides: Strides, product: u32, at: u32, count: u32, along_k: bool) -> u32 {
  let inside = min(at, count - 1u);
  return start_of(strides, product) + select(inside, inside * strides.row, along_k);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let across = (sizes.N + 3u) / 4u;
  let down = (sizes.M + 7u) / 8u;
  let product = i / (across * down);
  if (product >= sizes.products) {
    return;
  }
  let m = i / across % down * 8u;
  let n = i % across * 4u;
  let a_along_k = LAYOUT != TN;
  let b_along_k = LAYOUT == NT;
  let a0 = line_of(sizes.a, product, m, sizes.M, a_along_k);
  let a1 = line_of(sizes.a, product, m + 1u, sizes.M, a_along_k);
  let a2 = line_of(sizes.a, product, m + 2u, sizes.M, a_along_k);
  let a3 = line_of(sizes.a, product, m + 3u, sizes.M, a_along_k);
  let a4 = line_of(sizes.a, product, m + 4u, sizes.M, a_along_k);
  let a5 = line_of(sizes.a, product, m + 5u, sizes.M, a_along_k);
  let a6 = line_of(sizes.a, product, m + 6u, sizes.M, a_along_k);
  let a7 = line_of(sizes.a, product, m + 7u, sizes.M, a_along_k);
  let b0 = line_of(sizes.b, product, n, sizes.N, b_along_k);
  let b1 = line_of(sizes.b, product, n + 1u, sizes.N, b_along_k);
  let b2 = line_of(sizes.b, product, n + 2u, sizes.N, b_along_k);
  let b3 = line_of(sizes.b, product, n + 3u, sizes.N, b_along_k);
  let step_a = select(sizes.a.row, 1u, a_along_k);
  let step_b = select(sizes.b.row, 1u, b_along_k);
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  var acc4 = vec4<f32>();
  var acc5 = vec4<f32>();
  var acc6 = vec4<f32>();
  var acc7 = vec4<f32>();
  var ka = 0u;
  var kb = 0u;
  for (var k = 0u; k < sizes.K; k++) {
    let vb = vec4<f32>(b[b0 + kb], b[b1 + kb], b[b2 + kb], b[b3 + kb]);
    acc0 += a[a0 + ka] * vb;
    acc1 += a[a1 + ka] * vb;
    acc2 += a[a2 + ka] * vb;
    acc3 += a[a3 + ka] * vb;
    acc4 += a[a4 + ka] * vb;
    acc5 += a[a5 + ka] * vb;
    acc6 += a[a6 + ka] * vb;
    acc7 += a[a7 + ka] * vb;
    ka += step_a;
    kb += step_b;
  }
  let start = start_of(sizes.c, product);
  store_results(start, m, n, array<vec4<f32>, 4>(acc0, acc1, acc2, acc3));
  store_results(start, m + 4u, n, array<vec4<f32>, 4>(acc4, acc5, acc6, acc7));
}
