// resized[r][c] = x[r][c] for c < FROM_COLUMNS, else 0, for ROWS rows of TO_COLUMNS: rows padded with zeros, or cut.
// An invocation owns one element of the result. FLOPs: 0. Bytes: 8 ROWS TO_COLUMNS.
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> resized: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i >= ROWS * TO_COLUMNS) {
    return;
  }
  let c = i % TO_COLUMNS;
  var value = 0.0;
  if (c < FROM_COLUMNS) {
    value = x[i / TO_COLUMNS * FROM_COLUMNS + c];
  }
  resized[i] = value;
}
