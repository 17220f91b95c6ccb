// seeds = weights * loss scale, COUNT of them. An invocation owns one. FLOPs: COUNT. Bytes: 8 COUNT.
// include lib/loss_scale.wgsl
@group(0) @binding(0) var<storage, read> weights: array<f32>;
@group(0) @binding(1) var<storage, read> state: LossScale;
@group(0) @binding(2) var<storage, read_write> seeds: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 64u + lane;
  if (i < COUNT) {
    seeds[i] = weights[i] * state.scale;
  }
}
