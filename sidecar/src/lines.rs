//! Newline-delimited frames out of chunks of bytes.

/// Collects chunks until a line is whole.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Bytes of the buffer that hold no newline.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole line, without its newline.
    pub(crate) fn next_line(&mut self) -> Option<Vec<u8>> {
        let rest = self.buffer.get(self.searched..)?;
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let tail = self.buffer.split_off(self.searched + end + 1);
        let mut line = std::mem::replace(&mut self.buffer, tail);
        line.pop();
        self.searched = 0;
        Some(line)
    }

    /// Bytes of the line that is not whole yet.
    pub(crate) fn pending(&self) -> usize {
        self.buffer.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_the_chunks_fall() {
        let mut lines = Lines::default();
        lines.push(b"on");
        assert_eq!(lines.next_line(), None);
        lines.push(b"e\ntwo\n\nthr");
        assert_eq!(lines.next_line().as_deref(), Some(&b"one"[..]));
        assert_eq!(lines.next_line().as_deref(), Some(&b"two"[..]));
        assert_eq!(lines.next_line().as_deref(), Some(&b""[..]));
        assert_eq!(lines.next_line(), None);
        assert_eq!(lines.pending(), 3);
    }
}
