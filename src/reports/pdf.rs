//! How is a report printed? As PDF, on landscape A4, in the fonts that every reader has (Helvetica and Courier): the same cells
//! as everywhere, none cut off, each page with its number.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::{Chart, Report};

const PAGE: (f32, f32) = (842.0, 595.0);
const MARGIN: f32 = 36.0;
/// Size and leading of a cell.
const CELL: f32 = 6.5;
const LEADING: f32 = 8.0;
/// A letter of Courier is six tenths of its size wide.
const LETTER: f32 = 0.6 * CELL;
/// Letters between two columns, and the fewest and most of one.
const GAP: usize = 1;
const NARROW: usize = 6;
const WIDE: usize = 66;
/// Letters of the name of a fact.
const FACT: usize = 34;
/// The height of a chart.
const CHART: f32 = 110.0;

const SANS: Name<'static> = Name(b"F1");
const BOLD: Name<'static> = Name(b"F2");
const MONO: Name<'static> = Name(b"F3");

/// Writes a report.
pub(super) fn write(report: &Report) -> Vec<u8> {
    let mut paper = Paper { done: Vec::new(), page: Content::new(), y: PAGE.1 - MARGIN };
    paper.heading(report.kind.title());
    for (name, value) in &report.facts {
        paper.row(&[FACT, letters() - FACT - GAP], &[(*name).to_owned(), value.clone()], &mut |_| {});
    }
    paper.y -= LEADING;
    if report.chart.bars.len() > 1 {
        paper.chart(&report.chart);
    }
    if report.rows.is_empty() {
        paper.row(&[letters()], &["The log has nothing of this kind in this time.".to_owned()], &mut |_| {});
    } else {
        let widths = widths(report);
        let head: Vec<String> = report.columns.iter().map(|column| (*column).to_owned()).collect();
        paper.head(&widths, &head);
        for row in &report.rows {
            paper.row(&widths, row, &mut |paper| paper.head(&widths, &head));
        }
    }
    paper.bind(report.kind.title())
}

/// How many letters stand in a line. Both sides are small whole numbers.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a page has some hundreds of letters")]
fn letters() -> usize {
    ((PAGE.0 - 2.0 * MARGIN) / LETTER) as usize
}

/// Where the letter of a number stands.
#[expect(clippy::cast_precision_loss, reason = "a page has some hundreds of letters")]
fn at(letter: usize) -> f32 {
    MARGIN + letter as f32 * LETTER
}

/// As wide as the longest cell needs, and together no wider than the page.
fn widths(report: &Report) -> Vec<usize> {
    let longest = |column: usize| {
        let cells = report.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        let name = report.columns.get(column).map_or(0, |name| name.len());
        cells.chain([name]).max().unwrap_or(0).clamp(NARROW, WIDE)
    };
    let mut widths: Vec<usize> = (0..report.columns.len()).map(longest).collect();
    let space = letters().saturating_sub(GAP * widths.len());
    // The widest column gives way first.
    while widths.iter().sum::<usize>() > space {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROW => *widest -= 1,
            _ => break,
        }
    }
    widths
}

struct Paper {
    done: Vec<Content>,
    page: Content,
    /// Where the next line's top is, from the bottom.
    y: f32,
}

impl Paper {
    fn turn(&mut self) {
        self.done.push(std::mem::replace(&mut self.page, Content::new()));
        self.y = PAGE.1 - MARGIN;
    }

    fn text(&mut self, font: Name<'_>, size: f32, (x, y): (f32, f32), text: &str) {
        self.page.begin_text().set_font(font, size).next_line(x, y).show(Str(&latin(text))).end_text();
    }

    fn heading(&mut self, title: &str) {
        self.y -= 16.0;
        self.text(BOLD, 16.0, (MARGIN, self.y), title);
        self.y -= 12.0;
    }

    fn head(&mut self, widths: &[usize], names: &[String]) {
        let (left, width, top) = (MARGIN, PAGE.0 - 2.0 * MARGIN, self.y);
        let lines = names.iter().zip(widths).map(|(name, width)| wrapped(name, *width).len()).max().unwrap_or(1);
        let tall = tall(lines) + 2.0;
        self.page.set_fill_rgb(0.93, 0.945, 0.957).rect(left, top - tall, width, tall).fill_nonzero();
        self.page.set_fill_gray(0.0);
        self.row(widths, names, &mut |_| {});
    }

    /// One row. What does not fit the page goes on on the next one, under what `again` draws there.
    fn row(&mut self, widths: &[usize], cells: &[String], again: &mut dyn FnMut(&mut Self)) {
        let cells: Vec<Vec<String>> = cells.iter().zip(widths).map(|(cell, width)| wrapped(cell, *width)).collect();
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1);
        let whole = PAGE.1 - 2.0 * MARGIN - 4.0 * LEADING;
        if self.y - tall(lines) < MARGIN && tall(lines) < whole {
            self.turn();
            again(self);
        }
        let mut from = 0;
        while from < lines {
            let room = fits(self.y - MARGIN);
            if room == 0 {
                self.turn();
                again(self);
                continue;
            }
            let until = (from + room).min(lines);
            let mut letter = 0;
            for (cell, width) in cells.iter().zip(widths) {
                for (number, line) in cell.iter().enumerate().take(until).skip(from) {
                    let place = (at(letter), self.y - tall(number - from) - CELL);
                    self.text(MONO, CELL, place, line);
                }
                letter += width + GAP;
            }
            self.y -= tall(until - from);
            from = until;
        }
        self.y -= 2.0;
        let (y, right) = (self.y, PAGE.0 - MARGIN);
        self.page.set_stroke_gray(0.82).set_line_width(0.4).move_to(MARGIN, y).line_to(right, y).stroke();
        self.y -= 1.0;
    }

    /// A bar for each thing.
    #[expect(clippy::cast_precision_loss, reason = "a chart is looked at")]
    fn chart(&mut self, chart: &Chart) {
        let Chart { what, bars: days } = chart;
        if self.y - CHART - 30.0 < MARGIN {
            self.turn();
        }
        let most = days.iter().map(|(_, count)| *count).max().unwrap_or(0);
        let step = (PAGE.0 - 2.0 * MARGIN) / days.len() as f32;
        let bottom = self.y - CHART - 12.0;
        self.text(SANS, 8.0, (MARGIN, self.y - 8.0), &format!("{what}: at most {most}"));
        self.page.set_fill_rgb(0.23, 0.43, 0.65);
        for (number, (_, count)) in days.iter().enumerate() {
            let height = *count as f32 / most.max(1) as f32 * CHART;
            let x = MARGIN + number as f32 * step;
            self.page.rect(x, bottom, (step - 1.0).max(0.5), height).fill_nonzero();
        }
        self.page.set_fill_gray(0.0);
        let (first, last) = (days.first(), days.last());
        let name = |day: Option<&(String, u64)>| day.map_or("", |day| day.0.as_str()).to_owned();
        self.text(SANS, 8.0, (MARGIN, bottom - 10.0), &name(first));
        // No letter of Helvetica that stands here is wider.
        let width = name(last).len() as f32 * 0.56 * 8.0;
        self.text(SANS, 8.0, (PAGE.0 - MARGIN - width, bottom - 10.0), &name(last));
        self.y = bottom - 24.0;
    }

    /// Puts the pages together, each with its number.
    fn bind(mut self, title: &str) -> Vec<u8> {
        self.turn();
        let count = self.done.len();
        let mut numbers = 1..;
        let mut next = || Ref::new(numbers.next().unwrap_or(i32::MAX));
        let (catalog, tree, info) = (next(), next(), next());
        let fonts = [(SANS, "Helvetica"), (BOLD, "Helvetica-Bold"), (MONO, "Courier")].map(|font| (next(), font));
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(tree);
        let pages: Vec<(Ref, Ref)> = (0..count).map(|_| (next(), next())).collect();
        pdf.pages(tree).kids(pages.iter().map(|(page, _)| *page)).count(i32::try_from(count).unwrap_or(i32::MAX));
        pdf.document_info(info).title(TextStr(title)).producer(TextStr("keyward"));
        for (id, (_, base)) in &fonts {
            pdf.type1_font(*id).base_font(Name(base.as_bytes())).encoding_predefined(Name(b"WinAnsiEncoding"));
        }
        for (number, (mut content, (page, stream))) in self.done.into_iter().zip(&pages).enumerate() {
            let words = format!("keyward: {title}, page {} of {count}", number + 1);
            content
                .begin_text()
                .set_font(SANS, 7.0)
                .next_line(MARGIN, MARGIN - 16.0)
                .show(Str(&latin(&words)))
                .end_text();
            let bytes = content.finish();
            pdf.stream(*stream, &bytes);
            let mut page = pdf.page(*page);
            page.media_box(Rect::new(0.0, 0.0, PAGE.0, PAGE.1)).parent(tree).contents(*stream);
            let mut resources = page.resources();
            let mut named = resources.fonts();
            fonts.iter().for_each(|(id, (name, _))| {
                named.pair(*name, *id);
            });
            named.finish();
            resources.finish();
            page.finish();
        }
        pdf.finish()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a page has some dozens of lines")]
fn tall(lines: usize) -> f32 {
    lines as f32 * LEADING
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a page has some dozens of lines")]
fn fits(space: f32) -> usize {
    (space.max(0.0) / LEADING) as usize
}

/// A cell in lines of so many letters: broken after a space where there is one in the second half, else where it is full.
fn wrapped(cell: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest: Vec<char> = cell.chars().collect();
    while rest.len() > width {
        let space = rest.iter().take(width).rposition(|letter| *letter == ' ').filter(|place| *place >= width / 2);
        let tail = rest.split_off(space.map_or(width, |place| place + 1));
        lines.push(rest.iter().collect());
        rest = tail;
    }
    lines.push(rest.iter().collect());
    lines
}

/// The log holds printable ASCII; whatever else would come is shown as a question mark.
fn latin(text: &str) -> Vec<u8> {
    text.chars()
        .map(|letter| u8::try_from(letter).ok().filter(|byte| (b' '..=b'~').contains(byte)).unwrap_or(b'?'))
        .collect()
}
