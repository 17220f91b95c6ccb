enable subgroups;
// out[M, N] = op(a) op(b), then the epilogue: the same as gemm.wgsl, for adapters that run on a CPU.
// No workgroup memory: a barrier costs more there than a cache hit. An invocation owns 8 rows x 4 columns and takes K four
// at a time as 4 x 4 matrices. What the lanes of a workgroup share, they load in turns of four and broadcast: such an
// adapter loads lane by lane, so a load of one address by all lanes costs as much as a load of many.
// Vectors run along K where it is contiguous, else along M and N: those dimensions must be multiples of 4 (K need not be in TN).
// FLOPs: 2 M N K. Bytes: those of a, b and out.
@group(0) @binding(0) var<storage, read> a: array<Quad>;
@group(0) @binding(1) var<storage, read> b: array<Quad>;
// include lib/gemm_epilogue.wgsl

const NN = 0;
const NT = 1;
const TN = 2;

// Row k of b as a vector of 4 columns; zero past the end, so that a ragged K adds nothing.
fn columns_b(k: u32, n4: u32, end: u32) -> vec4<f32> {
  return select(vec4<f32>(), unpack_quad(b[min(k, sizes.K - 1u) * (sizes.N / 4u) + n4]), k < end);
}

// The 4 x 4 matrix whose rows lanes 0 to 3 hold (a row is 4 values along M), with columns along K.
fn gather_rows(lane_row: vec4<f32>) -> mat4x4<f32> {
  return transpose(mat4x4<f32>(
    subgroupBroadcast(lane_row, 0u), subgroupBroadcast(lane_row, 1u),
    subgroupBroadcast(lane_row, 2u), subgroupBroadcast(lane_row, 3u)));
}

@compute @workgroup_size(16)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(subgroup_invocation_id) subgroup_lane: u32) {
  let K4 = sizes.K / 4u;
  let M4 = sizes.M / 4u;
  let N4 = sizes.N / 4u;
  let turn = subgroup_lane % 4u;
  let m = group.y * 8u;
  let n = (group.x * 16u + lane) * 4u;
  let n4 = min(n, sizes.N - 1u) / 4u;
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
    for (var k = first; k < end; k += 4u) {
      let row = min(k + turn, sizes.K - 1u) * M4;
      let low = gather_rows(unpack_quad(a[row + m_low]));
      let high = gather_rows(unpack_quad(a[row + m_high]));
      let tile = mat4x4<f32>(columns_b(k, n4, end), columns_b(k + 1u, n4, end), columns_b(k + 2u, n4, end), columns_b(k + 3u, n4, end));
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
    let row_low = min(m + turn, sizes.M - 1u) * K4;
    let row_high = min(m + 4u + turn, sizes.M - 1u) * K4;
    let b0 = min(n, sizes.N - 1u) * K4;
    let b1 = min(n + 1u, sizes.N - 1u) * K4;
    let b2 = min(n + 2u, sizes.N - 1u) * K4;
    let b3 = min(n + 3u, sizes.N - 1u) * K4;
    for (var k = first / 4u; k < end / 4u; k++) {
      let low = unpack_quad(a[row_low + k]);
      let high = unpack_quad(a[row_high + k]);
      if (LAYOUT == NT) {
        let tile = mat4x4<f32>(
          unpack_quad(b[b0 + k]), unpack_quad(b[b1 + k]), unpack_quad(b[b2 + k]), unpack_quad(b[b3 + k]));
        acc0 += subgroupBroadcast(low, 0u) * tile;
        acc1 += subgroupBroadcast(low, 1u) * tile;
        acc2 += subgroupBroadcast(low, 2u) * tile;
        acc3 += subgroupBroadcast(low, 3u) * tile;
        acc4 += subgroupBroadcast(high, 0u) * tile;
        acc5 += subgroupBroadcast(high, 1u) * tile;
        acc6 += subgroupBroadcast(high, 2u) * tile;
        acc7 += subgroupBroadcast(high, 3u) * tile;
      } else {
        let at = k * 4u * N4 + n4;
        let tile = mat4x4<f32>(
          unpack_quad(b[at]), unpack_quad(b[at + N4]), unpack_quad(b[at + 2u * N4]), unpack_quad(b[at + 3u * N4]));
        acc0 += tile * subgroupBroadcast(low, 0u);
        acc1 += tile * subgroupBroadcast(low, 1u);
        acc2 += tile * subgroupBroadcast(low, 2u);
        acc3 += tile * subgroupBroadcast(low, 3u);
        acc4 += tile * subgroupBroadcast(high, 0u);
        acc5 += tile * subgroupBroadcast(high, 1u);
        acc6 += tile * subgroupBroadcast(high, 2u);
        acc7 += tile * subgroupBroadcast(high, 3u);
      }
    }
  }
  if (n < sizes.N) {
    let rows = array<vec4<f32>, 8>(acc0, acc1, acc2, acc3, acc4, acc5, acc6, acc7);
    for (var i = 0u; i < min(8u, max(sizes.M, m) - m); i++) {
      finish_quad(group.z, m + i, n, rows[i]);
    }
  }
}
