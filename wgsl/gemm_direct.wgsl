// out[M, N] = op(a) op(b), then the epilogue: the same as gemm.wgsl, for adapters that run on a CPU.
// No workgroup memory: a barrier costs more there than a cache hit. An invocation owns 8 rows x 4 columns and takes K four
// at a time as 4 x 4 matrices; the 16 invocations of a workgroup share their rows, so reads of a are uniform.
// Vectors run along K where it is contiguous, else along M and N: those dimensions must be multiples of 4 (K need not be in TN).
// FLOPs: 2 M N K. Bytes: 4 (M K + K N + M N).
@group(0) @binding(0) var<storage, read> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read> extra: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
@group(0) @binding(5) var<storage, read_write> out: array<f32>;
@group(0) @binding(6) var<storage, read> sizes: GemmSizes;
// include lib/gemm_epilogue.wgsl

const NN = 0;
const NT = 1;
const TN = 2;

fn row_a(m: u32) -> u32 {
  return min(m, sizes.M - 1u) * (sizes.K / 4u);
}

// Row k of b as a vector of 4 columns; zero past the end, so that a ragged sizes.K adds nothing.
fn columns_b(k: u32, n4: u32, end: u32) -> vec4<f32> {
  return select(vec4<f32>(), b[min(k, sizes.K - 1u) * (sizes.N / 4u) + n4], k < end);
}

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let K4 = sizes.K / 4u;
  let M4 = sizes.M / 4u;
  let N4 = sizes.N / 4u;
  let m = group.y * 8u;
  let n = (group.x * 16u + lane) * 4u;
  let first = group.z * sizes.k_per_part;
  let end = min(first + sizes.k_per_part, sizes.K);
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  var acc4 = vec4<f32>();
  var acc5 = vec4<f32>();
  var acc6 = vec4<f32>();
  var acc7 = vec4<f32>();
  if (LAYOUT == TN) {
    let m_low = min(m / 4u, M4 - 1u);
    let m_high = min(m / 4u + 1u, M4 - 1u);
    let n4 = min(n / 4u, N4 - 1u);
    for (var k = first; k < end; k += 4u) {
      let k1 = min(k + 1u, sizes.K - 1u);
      let k2 = min(k + 2u, sizes.K - 1u);
      let k3 = min(k + 3u, sizes.K - 1u);
      let tile = mat4x4<f32>(columns_b(k, n4, end), columns_b(k + 1u, n4, end), columns_b(k + 2u, n4, end), columns_b(k + 3u, n4, end));
      let low = transpose(mat4x4<f32>(a[k * M4 + m_low], a[k1 * M4 + m_low], a[k2 * M4 + m_low], a[k3 * M4 + m_low]));
      let high = transpose(mat4x4<f32>(a[k * M4 + m_high], a[k1 * M4 + m_high], a[k2 * M4 + m_high], a[k3 * M4 + m_high]));
      acc0 += tile * low[0];
      acc1 += tile * low[1];
      acc2 += tile * low[2];
      acc3 += tile * low[3];
      acc4 += tile * high[0];
      acc5 += tile * high[1];
      acc6 += tile * high[2];
      acc7 += tile * high[3];
    }
  } else {
    let a0 = row_a(m);
    let a1 = row_a(m + 1u);
    let a2 = row_a(m + 2u);
    let a3 = row_a(m + 3u);
    let a4 = row_a(m + 4u);
    let a5 = row_a(m + 5u);
    let a6 = row_a(m + 6u);
    let a7 = row_a(m + 7u);
    if (LAYOUT == NT) {
      let b0 = min(n, sizes.N - 1u) * K4;
      let b1 = min(n + 1u, sizes.N - 1u) * K4;
      let b2 = min(n + 2u, sizes.N - 1u) * K4;
      let b3 = min(n + 3u, sizes.N - 1u) * K4;
      for (var k = first / 4u; k < end / 4u; k++) {
        let tile = mat4x4<f32>(b[b0 + k], b[b1 + k], b[b2 + k], b[b3 + k]);
        acc0 += a[a0 + k] * tile;
        acc1 += a[a1 + k] * tile;
        acc2 += a[a2 + k] * tile;
        acc3 += a[a3 + k] * tile;
        acc4 += a[a4 + k] * tile;
        acc5 += a[a5 + k] * tile;
        acc6 += a[a6 + k] * tile;
        acc7 += a[a7 + k] * tile;
      }
    } else {
      let n4 = min(n / 4u, N4 - 1u);
      for (var k = first / 4u; k < end / 4u; k++) {
        let k4 = k * 4u * N4 + n4;
        let tile = mat4x4<f32>(b[k4], b[k4 + N4], b[k4 + 2u * N4], b[k4 + 3u * N4]);
        acc0 += tile * a[a0 + k];
        acc1 += tile * a[a1 + k];
        acc2 += tile * a[a2 + k];
        acc3 += tile * a[a3 + k];
        acc4 += tile * a[a4 + k];
        acc5 += tile * a[a5 + k];
        acc6 += tile * a[a6 + k];
        acc7 += tile * a[a7 + k];
      }
    }
  }
  if (n < sizes.N) {
    let rows = array<vec4<f32>, 8>(acc0, acc1, acc2, acc3, acc4, acc5, acc6, acc7);
    for (var i = 0u; i < min(8u, max(sizes.M, m) - m); i++) {
      finish_row(group.z, m + i, n, rows[i]);
    }
  }
}
