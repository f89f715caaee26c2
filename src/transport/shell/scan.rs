//! Cutting the standing shell's output at its markers.

use memchr::memmem;

/// A marker line longer than this is none.
const LONGEST_MARK: usize = 4096;

/// A piece of one output stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Data(&'a [u8]),
    /// What stood behind the marker, up to the end of its line.
    Mark(&'a str),
}

/// Finds markers in one stream, however it is cut into packets.
///
/// The marker may stand in the middle of a line (output without a last line end), so that nothing
/// needs to be held back of ordinary output: a line is passed on as soon as it is there.
pub(super) struct Scanner {
    needle: Vec<u8>,
    held: Vec<u8>,
}

impl Scanner {
    pub(super) fn new(marker: &str) -> Self {
        Scanner { needle: marker.as_bytes().to_vec(), held: Vec::new() }
    }

    pub(super) fn push(&mut self, data: &[u8], mut sink: impl FnMut(Piece<'_>)) {
        let joined;
        let mut rest: &[u8] = if self.held.is_empty() {
            data
        } else {
            joined = [std::mem::take(&mut self.held).as_slice(), data].concat();
            &joined
        };
        let finder = memmem::Finder::new(&self.needle);
        while let Some(at) = finder.find(rest) {
            let text = &rest[at + self.needle.len()..];
            match memchr::memchr(b'\n', text) {
                Some(end) => {
                    emit(&rest[..at], &mut sink);
                    sink(Piece::Mark(std::str::from_utf8(&text[..end]).unwrap_or_default()));
                    rest = &text[end + 1..];
                }
                None if text.len() > LONGEST_MARK => {
                    let taken = at + self.needle.len();
                    emit(&rest[..taken], &mut sink);
                    rest = &rest[taken..];
                }
                None => {
                    emit(&rest[..at], &mut sink);
                    self.held = rest[at..].to_vec();
                    return;
                }
            }
        }
        let keep = self.partial(rest);
        emit(&rest[..rest.len() - keep], &mut sink);
        self.held = rest[rest.len() - keep..].to_vec();
    }

    /// How many last bytes could be the beginning of a marker.
    fn partial(&self, data: &[u8]) -> usize {
        let longest = data.len().min(self.needle.len() - 1);
        (1..=longest).rev().find(|n| data.ends_with(&self.needle[..*n])).unwrap_or(0)
    }
}

fn emit(data: &[u8], sink: &mut impl FnMut(Piece<'_>)) {
    if !data.is_empty() {
        sink(Piece::Data(data));
    }
}

#[cfg(test)]
mod tests {
    use super::{Piece, Scanner};

    fn scan(chunks: &[&[u8]]) -> (Vec<u8>, Vec<String>) {
        let mut scanner = Scanner::new("@pgorch-0123 ");
        let (mut data, mut marks) = (Vec::new(), Vec::new());
        for chunk in chunks {
            scanner.push(chunk, |piece| match piece {
                Piece::Data(d) => data.extend_from_slice(d),
                Piece::Mark(m) => marks.push(format!("{}:{m}", data.len())),
            });
        }
        (data, marks)
    }

    #[test]
    fn every_cut_gives_the_same() {
        let text = b"one\n@two@pgorch-0123 1 0\nthree\n@pgorch-012x@pgorch-0123 2 7\n";
        let whole = scan(&[text]);
        assert_eq!(whole.0, b"one\n@twothree\n@pgorch-012x");
        assert_eq!(whole.1, ["8:1 0", "26:2 7"]);
        for a in 0..text.len() {
            for b in a..text.len() {
                assert_eq!(scan(&[&text[..a], &text[a..b], &text[b..]]), whole, "cut at {a}, {b}");
            }
        }
    }

    #[test]
    fn a_complete_line_is_not_held_back() {
        let mut scanner = Scanner::new("@pgorch-0123 ");
        let mut seen = Vec::new();
        scanner.push(b"waiting for the server\n", |p| {
            if let Piece::Data(d) = p {
                seen.extend_from_slice(d);
            }
        });
        assert_eq!(seen, b"waiting for the server\n");
    }
}
