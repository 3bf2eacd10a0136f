//! Two ends of a byte stream in memory, non-blocking, bounded, with wakers.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

/// One end. Reading and writing return `WouldBlock` rather than wait. Dropping it hangs up: the
/// other end reads what is left and then the end of the stream, and cannot write any more.
#[derive(Debug)]
pub struct End {
    pipe: Arc<Mutex<[Lane; 2]>>,
    /// The lane that this end reads; it writes the other one.
    side: usize,
}

#[derive(Debug, Default)]
struct Lane {
    bytes: VecDeque<u8>,
    capacity: usize,
    hung_up: bool,
    /// Bytes ever written: changes when anything happens.
    written: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A byte stream that holds up to `capacity` bytes in each direction.
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
    /// Whether a read would not block. If it would, `waker` is called when that changes.
    pub fn poll_read_ready(&self, waker: &Waker) -> Poll<()> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[self.side];
        if lane.bytes.is_empty() && !lane.hung_up {
            lane.reader = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Whether a write would not block. If it would, `waker` is called when that changes.
    pub fn poll_write_ready(&self, waker: &Waker) -> Poll<()> {
        let mut lanes = self.lanes();
        let lane = &mut lanes[1 - self.side];
        if lane.bytes.len() >= lane.capacity && !lane.hung_up {
            lane.writer = Some(waker.clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// Changes whenever the other end did something that this end can see.
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
