//! The table of results: one figure a line, beside that of a peer and beside its target.

use std::fmt;

/// Figures in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table(Vec<Line>);

/// One figure.
pub(crate) struct Line {
    figure: String,
    unit: Unit,
    ours: f64,
    peer: Option<f64>,
    target: Option<Target>,
}

/// What a figure counts.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Milliseconds,
    Seconds,
    Megabytes,
    RoundTrips,
    Calls,
    /// A plain number.
    Number,
}

enum Target {
    AtMost(f64),
    TimesLess(f64),
}

impl Table {
    /// Adds a figure, and that of a peer.
    pub(crate) fn line(&mut self, figure: impl Into<String>, unit: Unit, ours: f64, peer: Option<f64>) -> &mut Line {
        self.0.push_mut(Line { figure: figure.into(), unit, ours, peer, target: None })
    }
}

impl Line {
    /// It is to be no more than this.
    pub(crate) fn at_most(&mut self, most: f64) {
        self.target = Some(Target::AtMost(most));
    }

    /// It is to be so many times less than the peer's, if there is one.
    pub(crate) fn times_less(&mut self, times: f64) {
        self.target = self.peer.map(|_| Target::TimesLess(times));
    }

    fn ratio(&self) -> Option<f64> {
        Some(self.peer? / self.ours)
    }

    /// The target, and whether it was met by the figure as it is shown.
    fn verdict(&self) -> Option<(String, bool)> {
        let scale = 10_f64.powi(self.unit.decimals().try_into().expect("a small number"));
        Some(match self.target.as_ref()? {
            Target::AtMost(most) => {
                (format!("≤ {}", self.unit.show(*most)), (self.ours * scale).round() <= most * scale)
            }
            Target::TimesLess(times) => (format!("≥ {times:.0} x"), self.ratio()? >= *times),
        })
    }
}

impl Unit {
    fn decimals(self) -> usize {
        match self {
            Self::Calls => 0,
            Self::Milliseconds | Self::Megabytes | Self::RoundTrips => 1,
            Self::Seconds | Self::Number => 2,
        }
    }

    fn show(self, value: f64) -> String {
        let suffix = match self {
            Self::Milliseconds => " ms",
            Self::Seconds => " s",
            Self::Megabytes => " MB",
            Self::RoundTrips => " RTT",
            Self::Calls | Self::Number => "",
        };
        format!("{value:.*}{suffix}", self.decimals())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| {:<48} | {:>10} | {:>10} | {:>7} | {:>10} |        |", "", "credstash", "peer", "x", "target")?;
        writeln!(f, "|:{:-<48}-|-{:->10}:|-{:->10}:|-{:->7}:|-{:->10}:|--------|", "", "", "", "", "")?;
        for line in &self.0 {
            let ours = line.unit.show(line.ours);
            let peer = line.peer.map_or(String::new(), |peer| line.unit.show(peer));
            let ratio = line.ratio().map_or(String::new(), |ratio| format!("{ratio:.1}"));
            let (target, met) = line
                .verdict()
                .map_or((String::new(), ""), |(target, met)| (target, if met { "met" } else { "MISSED" }));
            writeln!(f, "| {:<48} | {ours:>10} | {peer:>10} | {ratio:>7} | {target:>10} | {met:<6} |", line.figure)?;
        }
        let verdicts: Vec<bool> = self.0.iter().filter_map(|line| Some(line.verdict()?.1)).collect();
        let met = verdicts.iter().filter(|met| **met).count();
        write!(f, "\n{met} of {} targets met. x: how many times more the peer takes.", verdicts.len())
    }
}
