// Row work where a row's LANES lanes (a power of two) lie in one subgroup: lib/rows.wgsl without barriers. Subgroups are
// consecutive invocations, so aligned groups of LANES stay together in subgroups of that size or any larger one.
// The exchange is a butterfly of fixed shape: every lane gets the sum, with the same bits on every run.
enable subgroups;

const ROW_THREADS: u32 = 256u;
const ROWS: u32 = ROW_THREADS / LANES;

// Every invocation of the subgroup must call this; each lane gets its row's sum.
fn row_sum(index: u32, value: f32) -> f32 {
  var sum = value;
  for (var step: u32 = 1u; step < LANES; step *= 2u) {
    sum += subgroupShuffleXor(sum, step);
  }
  return sum;
}
