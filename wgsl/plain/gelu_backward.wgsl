// du = dy gelu'(u) over COUNT quads. A workgroup owns 256 quads, an invocation one.
// FLOPs: 100 COUNT. Bytes: 48 COUNT.
// include lib/erf.wgsl
@group(0) @binding(0) var<storage, read> u: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> du: array<vec4<f32>>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    du[i] = dy[i] * gelu_derivative(u[i]);
  }
}
