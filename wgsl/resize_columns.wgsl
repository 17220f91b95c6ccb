// resized[r][c] = x[r][c] for c < FROM_COLUMNS, else 0: rows of TO_COLUMNS, padded with zeros or cut, QUADS quads in all.
// A quad may lie across the end of a row. An invocation owns one quad of the result.
// FLOPs: 0. Bytes: 4 for each element of x that is used, and those of the result.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> resized: array<Result>;

fn element(i: u32) -> f32 {
  let c = i % TO_COLUMNS;
  if (c >= FROM_COLUMNS) {
    return 0.0;
  }
  return x[i / TO_COLUMNS * FROM_COLUMNS + c];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < QUADS) {
    let e = 4u * i;
    resized[i] = pack_result(vec4<f32>(element(e), element(e + 1u), element(e + 2u), element(e + 3u)));
  }
}
