enable subgroups;
// out[M, N] = op(a) op(b), then the epilogue: the same as gemm.wgsl, for adapters that run on a CPU.
// No workgroup memory: a barrier costs more there than a cache hit. A load costs such an adapter as much as a dozen
// multiply-adds, lane by lane, whether the lanes differ or not: so an invocation owns 2 LANES rows x 4 columns, and what all
// lanes need of a they load in LANES turns, two loads a step of four k, and broadcast.
// Vectors run along K where it is contiguous, else along M and N: those dimensions must be multiples of 4 (K need not be in TN).
// LANES: 8 where subgroups have at least as many lanes, else 4; the first 4 or 8 lanes of a subgroup are always there.
// FLOPs: 2 M N K. Bytes: those of a, b and out.
@group(0) @binding(0) var<storage, read> a: array<Quad>;
@group(0) @binding(1) var<storage, read> b: array<Quad>;
// include lib/gemm_epilogue.wgsl

const NN = 0;
const NT = 1;
const TN = 2;
const UPPER = 4u % LANES;

// Row k of b as a vector of 4 columns; zero past the end, so that a ragged K adds nothing.
fn columns_b(k: u32, n4: u32, end: u32) -> vec4<f32> {
  return select(vec4<f32>(), unpack_quad(b[min(k, sizes.K - 1u) * (sizes.N / 4u) + n4]), k < end);
}

// 4 rows of a, each a vector of 4 k, out of what lanes 0 to 3 hold: in TN a vector of 4 rows each, else a row each.
fn rows_of_lower_lanes(held: vec4<f32>) -> mat4x4<f32> {
  let quads = mat4x4<f32>(
    subgroupBroadcast(held, 0u), subgroupBroadcast(held, 1u), subgroupBroadcast(held, 2u), subgroupBroadcast(held, 3u));
  if (LAYOUT == TN) {
    return transpose(quads);
  }
  return quads;
}

// The same of lanes 4 to 7, or again 0 to 3 where there are no others.
fn rows_of_upper_lanes(held: vec4<f32>) -> mat4x4<f32> {
  let quads = mat4x4<f32>(
    subgroupBroadcast(held, UPPER), subgroupBroadcast(held, UPPER + 1u),
    subgroupBroadcast(held, UPPER + 2u), subgroupBroadcast(held, UPPER + 3u));
  if (LAYOUT == TN) {
    return transpose(quads);
  }
  return quads;
}

// sum + row tile, where column k of tile is row k of b. With 8 lanes the driver has multiply-adds, but only where they are named;
// SwiftShader, with 4, calls a function for them.
fn multiply_add(row: vec4<f32>, tile: mat4x4<f32>, sum: vec4<f32>) -> vec4<f32> {
  if (LANES == 4u) {
    return sum + tile * row;
  }
  let first = fma(vec4<f32>(row.y), tile[1], fma(vec4<f32>(row.x), tile[0], sum));
  return fma(vec4<f32>(row.w), tile[3], fma(vec4<f32>(row.z), tile[2], first));
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32,
        @builtin(subgroup_invocation_id) subgroup_lane: u32) {
  let K4 = sizes.K / 4u;
  let M4 = sizes.M / 4u;
  let N4 = sizes.N / 4u;
  let turn = subgroup_lane % LANES;
  let m = group.y * 2u * LANES;
  let n = (group.x * 8u + lane) * 4u;
  let n4 = min(n, sizes.N - 1u) / 4u;
  let first = group.z * sizes.k_per_part;
  let end = min(first + sizes.k_per_part, sizes.K);
  // What this lane holds of a: the rows m + turn and m + LANES + turn or, in TN, of row k + turn % 4 two vectors along M.
  let row_low = min(m + turn, sizes.M - 1u) * K4;
  let row_high = min(m + LANES + turn, sizes.M - 1u) * K4;
  let m4_low = min(m / 4u + turn / 4u, M4 - 1u);
  let m4_high = min((m + LANES) / 4u + turn / 4u, M4 - 1u);
  let column0 = min(n, sizes.N - 1u) * K4;
  let column1 = min(n + 1u, sizes.N - 1u) * K4;
  let column2 = min(n + 2u, sizes.N - 1u) * K4;
  let column3 = min(n + 3u, sizes.N - 1u) * K4;
  // Named, not an array: an array would live in memory.
  var acc0 = vec4<f32>();
  var acc1 = vec4<f32>();
  var acc2 = vec4<f32>();
  var acc3 = vec4<f32>();
  var acc4 = vec4<f32>();
  var acc5 = vec4<f32>();
  var acc6 = vec4<f32>();
  var acc7 = vec4<f32>();
  var acc8 = vec4<f32>();
  var acc9 = vec4<f32>();
  var acc10 = vec4<f32>();
  var acc11 = vec4<f32>();
  var acc12 = vec4<f32>();
  var acc13 = vec4<f32>();
  var acc14 = vec4<f32>();
  var acc15 = vec4<f32>();
  for (var k = first; k < end; k += 4u) {
    var low: vec4<f32>;
    var high: vec4<f32>;
    var tile: mat4x4<f32>;
    if (LAYOUT == TN) {
      let row = min(k + turn % 4u, sizes.K - 1u) * M4;
      low = unpack_quad(a[row + m4_low]);
      high = unpack_quad(a[row + m4_high]);
      tile = mat4x4<f32>(columns_b(k, n4, end), columns_b(k + 1u, n4, end), columns_b(k + 2u, n4, end), columns_b(k + 3u, n4, end));
    } else {
      let k4 = k / 4u;
      low = unpack_quad(a[row_low + k4]);
      high = unpack_quad(a[row_high + k4]);
      if (LAYOUT == NT) {
        tile = transpose(mat4x4<f32>(
          unpack_quad(b[column0 + k4]), unpack_quad(b[column1 + k4]), unpack_quad(b[column2 + k4]), unpack_quad(b[column3 + k4])));
      } else {
        let at = k * N4 + n4;
        tile = mat4x4<f32>(
          unpack_quad(b[at]), unpack_quad(b[at + N4]), unpack_quad(b[at + 2u * N4]), unpack_quad(b[at + 3u * N4]));
      }
    }
    let rows0 = rows_of_lower_lanes(low);
    acc0 = multiply_add(rows0[0], tile, acc0);
    acc1 = multiply_add(rows0[1], tile, acc1);
    acc2 = multiply_add(rows0[2], tile, acc2);
    acc3 = multiply_add(rows0[3], tile, acc3);
    if (LANES == 4u) {
      let rows1 = rows_of_lower_lanes(high);
      acc4 = multiply_add(rows1[0], tile, acc4);
      acc5 = multiply_add(rows1[1], tile, acc5);
      acc6 = multiply_add(rows1[2], tile, acc6);
      acc7 = multiply_add(rows1[3], tile, acc7);
    } else {
      let rows1 = rows_of_upper_lanes(low);
      acc4 = multiply_add(rows1[0], tile, acc4);
      acc5 = multiply_add(rows1[1], tile, acc5);
      acc6 = multiply_add(rows1[2], tile, acc6);
      acc7 = multiply_add(rows1[3], tile, acc7);
      let rows2 = rows_of_lower_lanes(high);
      acc8 = multiply_add(rows2[0], tile, acc8);
      acc9 = multiply_add(rows2[1], tile, acc9);
      acc10 = multiply_add(rows2[2], tile, acc10);
      acc11 = multiply_add(rows2[3], tile, acc11);
      let rows3 = rows_of_upper_lanes(high);
      acc12 = multiply_add(rows3[0], tile, acc12);
      acc13 = multiply_add(rows3[1], tile, acc13);
      acc14 = multiply_add(rows3[2], tile, acc14);
      acc15 = multiply_add(rows3[3], tile, acc15);
    }
  }
  if (n < sizes.N) {
    let rows = array<vec4<f32>, 16>(
      acc0, acc1, acc2, acc3, acc4, acc5, acc6, acc7, acc8, acc9, acc10, acc11, acc12, acc13, acc14, acc15);
    for (var i = 0u; i < min(2u * LANES, max(sizes.M, m) - m); i++) {
      finish_quad(group.z, m + i, n, rows[i]);
    }
  }
}
