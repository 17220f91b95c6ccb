// out[r, first + c] = source[r / repeat, c]: writes one matrix into a range of columns of a wider one, each of its rows
// `repeat` times. Widths in quads. An invocation owns one quad of the range. FLOPs: 0. Bytes: 4 (1 + 1 / repeat) a value.
struct Columns {
  rows: u32,
  width: u32,
  first: u32,
  out_width: u32,
  repeat: u32,
}
@group(0) @binding(0) var<storage, read> source: array<Quad>;
@group(0) @binding(1) var<storage, read_write> out: array<Quad>;
@group(0) @binding(2) var<storage, read> sizes: Columns;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  let r = i / sizes.width;
  let c = i % sizes.width;
  if (r < sizes.rows) {
    out[r * sizes.out_width + sizes.first + c] = source[r / sizes.repeat * sizes.width + c];
  }
}
