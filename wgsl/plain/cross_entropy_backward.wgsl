// dl[r] = -upstream[term] weights[before + r] t[r], the gradient of cross_entropy.wgsl, for COUNT quads in rows of QUADS.
// A workgroup owns 256 quads, an invocation one. FLOPs: 4 COUNT. Bytes: 16 COUNT and those of the targets.
// include plain/lib/loss_rows.wgsl
@group(0) @binding(0) var<storage, read> targets: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read> upstream: array<f32>;
@group(0) @binding(3) var<storage, read_write> dl: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> rows: LossRows;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
        @builtin(local_invocation_index) lane: u32) {
  let i = (group.y * groups.x + group.x) * 256u + lane;
  if (i < COUNT) {
    let r = i / QUADS;
    let factor = -upstream[rows.term] * weights[rows.before + r];
    dl[i] = factor * targets[target_row(rows, r) * QUADS + i % QUADS];
  }
}
