//! What one input costs: the time and the memory of the thread that works on it.

use crate::limits::Limit;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// Bytes that this thread took and did not give back. What it gave back for others makes it less.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most that it was.
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and a count of it for each thread.
pub struct Counting;

fn count(change: isize) {
    // A thread that is about to end has no count any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get().saturating_add(change));
        let _ = MOST.try_with(|most| most.set(most.get().max(held.get())));
    });
}

fn size(bytes: usize) -> isize {
    isize::try_from(bytes).unwrap_or(isize::MAX)
}

// SAFETY: the system's allocator does the work, and gets each call as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(size(layout.size()));
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-size(layout.size()));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // Both are there while one is copied to the other.
        count(size(bytes));
        count(-size(layout.size()));
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Time that this thread ran, to a few milliseconds: what others do on the machine does not count.
fn ran() -> Duration {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells how long a thread ran");
    let nanoseconds = read.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.expect("its first number is that"))
}

/// Bytes that this thread took so far and did not give back.
pub fn held() -> isize {
    HELD.get()
}

/// Does something with an input of so many bytes, which must stay within the limit.
pub fn within<T>(limit: &Limit, bytes: usize, work: impl FnOnce() -> T) -> T {
    let before = ran();
    let held = HELD.get();
    MOST.set(held);
    let result = work();
    let most = usize::try_from(MOST.get() - held).unwrap_or(0);
    let took = ran().saturating_sub(before);
    let name = limit.name;
    assert!(most <= limit.bytes(bytes), "{name}: {most} bytes of memory for an input of {bytes}");
    assert!(took <= limit.time, "{name}: {took:?} for an input of {bytes} bytes");
    result
}

#[test]
fn what_is_taken_and_what_is_run_counts() {
    let limit = Limit { name: "this", memory: 1 << 20, times: 2, time: Duration::from_secs(5), ..Limit::NONE };
    let take = |bytes: usize| within(&limit, 1 << 20, || drop(std::hint::black_box(vec![1u8; bytes])));
    take(3 << 20);
    let fails = |work: &dyn Fn()| std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err();
    assert!(fails(&|| take((3 << 20) + 1)));
    let brief = Limit { time: Duration::from_millis(1), ..limit };
    assert!(fails(&|| within(&brief, 0, || {
        let before = ran();
        while ran() < before + Duration::from_millis(20) {}
    })));
}
