// halves = values, rounded to half precision, over COUNT quads. A workgroup owns 256 of them, an invocation one.
// FLOPs: 0. Bytes: 24 COUNT.
@group(0) @binding(0) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> halves: array<Quad>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    halves[i] = pack_quad(values[i]);
  }
}
