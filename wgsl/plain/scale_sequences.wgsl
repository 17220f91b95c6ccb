// y = factors[first + s] x for every sequence s of x: stochastic depth by a mask of 0 and b/s (specification 1.6), and its
// gradient. A sequence has QUADS quads (all its rows), x has COUNT. A workgroup owns 256 quads, an invocation one.
// FLOPs: 4 COUNT. Bytes: 32 COUNT.
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> first: array<u32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    y[i] = factors[first[0] + i / QUADS] * x[i];
  }
}
