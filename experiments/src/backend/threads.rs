//! Sizes of the thread pools that a backend computes with.

use std::collections::BTreeMap;

use super::Backend;

/// Returns the number of threads of each pool: `rayon`, `loader` and, on its backend, `libtorch`.
pub(crate) fn threads(backend: Backend) -> BTreeMap<String, usize> {
    let libtorch = (backend == Backend::LibTorch)
        .then(libtorch_threads)
        .flatten();
    [
        ("rayon", Some(rayon::current_num_threads())),
        ("loader", Some(1)),
        ("libtorch", libtorch),
    ]
    .into_iter()
    .filter_map(|(pool, threads)| Some((pool.to_owned(), threads?)))
    .collect()
}

#[cfg(feature = "libtorch")]
fn libtorch_threads() -> Option<usize> {
    // SAFETY: the function takes no argument and returns a number.
    usize::try_from(unsafe { torch_sys::at_get_num_threads() }).ok()
}

#[cfg(not(feature = "libtorch"))]
fn libtorch_threads() -> Option<usize> {
    None
}
