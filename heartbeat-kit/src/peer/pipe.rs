//! A bounded, non-blocking byte stream in memory, with wakers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// An end of the stream. Reads and writes return `WouldBlock` instead of waiting. Dropping an end hangs up: the other end
/// reads the remaining bytes and then the end of the stream, and its writes fail.
#[derive(Debug)]
pub struct End {
    pipe: Arc<Mutex<[Lane; 2]>>,
    /// Index of the lane that this end reads. It writes to the other lane.
    side: usize,
}

#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    capacity: usize,
    hung_up: bool,
    /// The number of bytes written since the beginning.
    written: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Creates a byte stream that buffers up to `capacity` bytes in each direction.
#[must_use]
pub fn pipe(capacity: usize) -> (End, End) {
    let lane = || Lane {
        capacity,
        ..Lane::default()
    };
    let pipe = Arc::new(Mutex::new([lane(), lane()]));
    (
        End {
            pipe: Arc::clone(&pipe),
            side: 0,
        },
        End { pipe, side: 1 },
    )
}

impl End {
    /// Ready if a read would not block. Otherwise calls `waker` when that changes.
    pub fn poll_read_ready(&self, waker: &Waker) -> Poll<()> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[self.side];
        if lane.bytes.is_empty() && !lane.hung_up {
            lane.reader = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Ready if a write would not block. Otherwise calls `waker` when that changes.
    pub fn poll_write_ready(&self, waker: &Waker) -> Poll<()> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[1 - self.side];
        if lane.bytes.len() >= lane.capacity && !lane.hung_up {
            lane.writer = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Returns a value that changes whenever the other end does something that this end can see.
    #[must_use]
    pub fn seen(&self) -> (u64, usize, bool) {
        let lanes = self.lanes();
        let (read, write) = (&lanes[self.side], &lanes[1 - self.side]);
        (read.written, write.bytes.len(), read.hung_up)
    }

    fn lanes(&self) -> MutexGuard<'_, [Lane; 2]> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[self.side];
        if lane.bytes.is_empty() && !lane.hung_up {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = lane.bytes.read(buffer)?;
        wake(&mut lane.writer);
        Ok(count)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[1 - self.side];
        if lane.hung_up {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = lane.capacity.saturating_sub(lane.bytes.len());
        if room == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = room.min(bytes.len());
        lane.bytes.extend(&bytes[..count]);
        lane.written += count as u64;
        wake(&mut lane.reader);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut lanes = self.lanes();
        for lane in lanes.iter_mut() {
            lane.hung_up = true;
            wake(&mut lane.reader);
            wake(&mut lane.writer);
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
