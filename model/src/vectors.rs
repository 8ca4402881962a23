//! The processor's vector instructions.

use pulp::{Arch, WithSimd};

/// Runs `work` compiled for this processor's vector instructions. A closure has to be `#[inline(always)]`, as has all that
/// it calls. Rust never contracts a product and a sum, so the bits do not depend on the instructions unless `work` asks
/// for fused products.
#[inline(always)]
pub(crate) fn vectorized<W: WithSimd>(work: W) -> W::Output {
    let arch = Arch::new();
    // pulp knows AVX2, and leaves it out of its own choice unless its feature x86-v3 is on, which no dependency asks for.
    #[cfg(target_arch = "x86_64")]
    if let Arch::Scalar = arch
        && let Some(simd) = pulp::x86::V3::try_new()
    {
        return pulp::Simd::vectorize(simd, work);
    }
    arch.dispatch(work)
}
