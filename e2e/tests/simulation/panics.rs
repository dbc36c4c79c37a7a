//! What panicked in a run: a run time keeps it to itself.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs it; the error is what panicked last, which is not printed.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let others = take_hook();
        set_hook(Box::new(move |panic| if WATCHED.get() { LAST.set(Some(panic.to_string())) } else { others(panic) }));
    });
    WATCHED.set(true);
    let result = catch_unwind(AssertUnwindSafe(run));
    WATCHED.set(false);
    result.map_err(|_| take().unwrap_or_default())
}

/// The last panic in the run of this thread, once.
pub(crate) fn take() -> Option<String> {
    LAST.take()
}
