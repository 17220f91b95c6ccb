// The operands of the batched products: strided parts of their tensors, one matrix for each head of each sequence.
// LAYOUT as in gemm.wgsl: NN a[M,K] b[K,N]; NT a[M,K] b[N,K]; TN a[K,M] b[K,N].

// In elements: where the first matrix begins, and from one sequence, head and row to the next.
struct Strides {
  first: u32,
  sequence: u32,
  head: u32,
  row: u32,
}
struct Sizes {
  M: u32,
  N: u32,
  K: u32,
  heads: u32,
  products: u32,
  a: Strides,
  b: Strides,
  c: Strides,
}
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;
@group(0) @binding(3) var<storage, read> sizes: Sizes;

const NN = 0;
const NT = 1;
const TN = 2;

fn start_of(strides: Strides, product: u32) -> u32 {
  return strides.first + product / sizes.heads * strides.sequence + product % sizes.heads * strides.head;
}

// Writes what lies inside of 4 x 4 results from row m and column n on.
fn store_results(start: u32, m: u32, n: u32, rows: array<vec4<f32>, 4>) {
  for (var i = 0u; i < min(4u, max(sizes.M, m) - m); i++) {
    for (var j = 0u; j < min(4u, max(sizes.N, n) - n); j++) {
      c[start + (m + i) * sizes.c.row + n + j] = ALPHA * rows[i][j];
    }
  }
}
