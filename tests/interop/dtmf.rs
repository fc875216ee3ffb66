//! Keys of a telephone through the daemon, from each way of sending them to each other one, as they are on the wire: of one
//! press comes one key, and nothing of it the way that it came.

use anyhow::{Context, Result, bail, ensure};
use gateway_userspace::codec::g711;
use std::f64::consts::TAU;
use std::net::UdpSocket;
use std::thread;
use std::time::{Duration, Instant};
use support::daemon::Daemon;
use support::lab::{Host, Lab};
use support::phone::{Call, Phone, TELEPHONE_EVENT};
use support::tone::Recording;
use support::wire::Rtp;

const MEDIA: u16 = 30_000;
const PCMU: u8 = 0;
/// Of a packet of speech.
const PACKET: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;
const SILENCE: u8 = 0xff;
/// What is pressed, each key for so many packets with as long a pause behind it.
const KEYS: [char; 4] = ['1', '5', '5', '#'];
const PRESSED: usize = 6;
const PAUSE: usize = 6;
/// Silence before the first key and behind the last.
const MARGIN: usize = 25;
/// Calls that are placed at most, until one is undisturbed.
const ATTEMPTS: u32 = 6;
const ROWS: [f64; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS: [f64; 4] = [1209.0, 1336.0, 1477.0, 1633.0];
const KEYPAD: [&str; 4] = ["123A", "456B", "789C", "*0#D"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Events,
    InBand,
    Info,
}

impl Way {
    const ALL: [Self; 3] = [Self::Events, Self::InBand, Self::Info];

    /// As the configuration calls it.
    fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::InBand => "in_band",
            Self::Info => "info_relay",
        }
    }

    fn sdp(self, host: &str) -> String {
        let (number, lines) = match self {
            Self::Events => (" 101", "a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"),
            Self::InBand | Self::Info => ("", ""),
        };
        let family = if host.contains(':') { "IP6" } else { "IP4" };
        format!(
            "v=0\r\no=phone 1 1 IN {family} {host}\r\ns=-\r\nc=IN {family} {host}\r\nt=0 0\r\n\
             m=audio {MEDIA} RTP/AVP 0{number}\r\na=rtpmap:0 PCMU/8000\r\n{lines}"
        )
    }
}

/// What the test is about, beside the ways of the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    AfXdp,
    Sockets,
    /// As [`Over::AfXdp`], from a caller with IPv6 to a callee with IPv4.
    BothFamilies,
}

impl Over {
    /// Addresses of the gateway and of the caller, to each other.
    fn addresses(self) -> [&'static str; 2] {
        match self {
            Self::AfXdp | Self::Sockets => ["10.81.1.1", "10.81.1.2"],
            Self::BothFamilies => ["fd00:81:1::1", "fd00:81:1::2"],
        }
    }
}

fn trunks(from: Way, to: Way, [ours, theirs]: [&str; 2]) -> String {
    let trunk = |name: &str, ours: &str, theirs: &str, way: Way| {
        let bracketed = |host: &str| if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let [ours, theirs] = [ours, theirs].map(bracketed);
        format!(
            "[[trunk]]\nname = \"{name}\"\nlisten = \"udp:{ours}:5060\"\npeers = [{{ address = \"{theirs}:5060\" }}]\n\
             [trunk.media]\ntranscode = \"when_needed\"\ndtmf = \"{}\"\n",
            way.name()
        )
    };
    [
        trunk("operator", ours, theirs, from),
        trunk("service", "10.81.2.1", "10.81.2.2", to),
        "[[route]]\nprefix = \"\"\nfrom = \"operator\"\nto = \"service\"\n".to_owned(),
    ]
    .concat()
}

/// Its phone's end of a call, with its audio.
struct End {
    phone: Phone,
    call: Call,
    audio: UdpSocket,
}

fn connected(lab: &Lab, from: Way, to: Way, over: Over) -> Result<[End; 2]> {
    let [_, theirs] = over.addresses();
    let audio = |host, address: &str| -> Result<UdpSocket> {
        let socket = lab.on(host, || Ok(UdpSocket::bind((address, MEDIA))?))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let mut caller = match over {
        Over::AfXdp | Over::Sockets => Phone::new(lab, Host::Caller)?,
        Over::BothFamilies => Phone::over_ipv6(lab)?,
    };
    let mut callee = Phone::new(lab, Host::Callee)?;
    let mut calling = caller.invite_with("0800", MEDIA, "application/sdp", &from.sdp(theirs))?;
    let (called, _) = callee.respond_with("200 OK", MEDIA, &to.sdp("10.81.2.2"))?;
    caller.be_answered(&mut calling)?;
    callee.receive("an ACK", |message| message.is_request("ACK"))?;
    Ok([
        End { phone: caller, call: calling, audio: audio(Host::Caller, theirs)? },
        End { phone: callee, call: called, audio: audio(Host::Callee, "10.81.2.2")? },
    ])
}

fn frequencies(key: char) -> (f64, f64) {
    let row = KEYPAD.iter().position(|row| row.contains(key)).expect("a key");
    (ROWS[row], COLUMNS[KEYPAD[row].find(key).expect("in its row")])
}

fn code(key: char) -> u8 {
    "0123456789*#ABCD".find(key).expect("a key") as u8
}

/// Presses the keys, and hears what comes at the other end meanwhile; `None` if the host stood still for a packet or more, and
/// with it whoever it was that had to send one.
fn press(caller: &mut End, callee: &UdpSocket, way: Way) -> Result<Option<Vec<Vec<u8>>>> {
    let at = caller.call.far_media.context("where the gateway hears")?;
    let packets = 2 * MARGIN + KEYS.len() * (PRESSED + PAUSE);
    let (begun, mut heard, mut sequence, mut late) = (Instant::now(), Vec::new(), 0, Duration::ZERO);
    for index in 0..packets {
        let turn = index.checked_sub(MARGIN).filter(|turn| turn / (PRESSED + PAUSE) < KEYS.len());
        let key = turn.map(|turn| (KEYS[turn / (PRESSED + PAUSE)], turn % (PRESSED + PAUSE)));
        match key {
            Some((key, 0)) if way == Way::Info => {
                let duration = PACKET.as_millis() as usize * PRESSED;
                let body = format!("Signal={key}\r\nDuration={duration}\r\n");
                caller.phone.inform(&mut caller.call, "application/dtmf-relay", &body)?;
            }
            _ => {}
        }
        for packet in said(way, index, key.filter(|(_, step)| *step < PRESSED)) {
            caller.audio.send_to(&Rtp { sequence, ..packet }.octets(), at)?;
            sequence += 1;
        }
        let due = PACKET * (index as u32 + 1);
        thread::sleep(due.saturating_sub(begun.elapsed()));
        late = late.max(begun.elapsed().saturating_sub(due));
        heard.extend(arrived(callee));
    }
    thread::sleep(PACKET * 20);
    heard.extend(arrived(callee));
    Ok((late < PACKET).then_some(heard))
}

fn arrived(audio: &UdpSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    std::iter::from_fn(|| audio.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
}

/// What goes out at this time, while a key has been down for so many packets.
fn said(way: Way, index: usize, key: Option<(char, usize)>) -> Vec<Rtp> {
    let at = (index * SAMPLES) as u32;
    let packet = Rtp { payload_type: PCMU, timestamp: at, ..Rtp::default() };
    let Some((key, step)) = key else { return vec![Rtp { body: vec![SILENCE; SAMPLES], ..packet }] };
    match way {
        Way::Info => vec![Rtp { body: vec![SILENCE; SAMPLES], ..packet }],
        Way::InBand => {
            let (low, high) = frequencies(key);
            let sample = |number: usize| {
                let time = (step * SAMPLES + number) as f64 / 8_000.0;
                let wave = 5_000.0 * (TAU * low * time).sin() + 5_000.0 * (TAU * high * time).sin();
                g711::ulaw_of_linear(wave as i16)
            };
            vec![Rtp { body: (0..SAMPLES).map(sample).collect(), ..packet }]
        }
        Way::Events => {
            let (last, duration) = (step + 1 == PRESSED, ((step + 1) * SAMPLES) as u16);
            let [high, low] = duration.to_be_bytes();
            let event = Rtp {
                payload_type: TELEPHONE_EVENT,
                marker: step == 0,
                timestamp: at - (step * SAMPLES) as u32,
                body: vec![code(key), if last { 0x80 | 10 } else { 10 }, high, low],
                ..packet
            };
            // The last one goes out three times (RFC 4733 section 2.5.1.4).
            vec![event; if last { 3 } else { 1 }]
        }
    }
}

/// Keys that came as telephone-events, each with its length in ms.
fn events(heard: &[Vec<u8>]) -> Vec<(char, u64)> {
    let mut keys: Vec<(u32, char, u64)> = Vec::new();
    for packet in heard.iter().filter(|packet| packet[1] & 0x7f == TELEPHONE_EVENT) {
        let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let key = char::from(b"0123456789*#ABCD"[usize::from(packet[12])]);
        let lasted = u64::from(u16::from_be_bytes([packet[14], packet[15]])) / 8;
        match keys.last_mut() {
            Some(last) if last.0 == timestamp => last.2 = lasted,
            _ => keys.push((timestamp, key, lasted)),
        }
    }
    keys.into_iter().map(|(_, key, lasted)| (key, lasted)).collect()
}

/// Keys that came as tones, each with its length in ms.
fn tones(heard: &[Vec<u8>]) -> Vec<(char, u64)> {
    let speech = heard.iter().filter(|packet| packet[1] & 0x7f == PCMU);
    let samples: Vec<f64> = speech
        .flat_map(|packet| packet[12..].iter().map(|code| f64::from(g711::linear_of_ulaw(*code))))
        .collect();
    let audio = Recording { rate: 8_000, samples };
    // Within one of these, two tones of the keypad are told from each other.
    const STEP: f64 = 0.02;
    let key = |step: usize| -> Option<char> {
        let part = audio.part(step as f64 * STEP, STEP).ok().filter(|part| part.power() > 1e5)?;
        "1234567890*#ABCD".chars().find(|key| {
            let (low, high) = frequencies(*key);
            let shares = (part.share(low), part.share(high));
            shares.0 > 0.25 && shares.1 > 0.25 && shares.0 + shares.1 > 0.8
        })
    };
    let found: Vec<_> = (0..(audio.seconds() / STEP) as usize).map(key).collect();
    let runs = found.chunk_by(|one, other| one == other);
    runs.filter_map(|run| Some((run[0]?, run.len() as u64 * 20))).collect()
}

/// Keys that came by INFO, each with its length in ms.
fn informed(phone: &mut Phone, call: &Call) -> Result<Vec<(char, u64)>> {
    let mut keys = Vec::new();
    for _ in KEYS {
        let info = phone.be_informed(call)?;
        let value = |name: &str| {
            let line = info.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::trim).with_context(|| format!("no {name} in {:?}", info.body))
        };
        keys.push((value("Signal")?.parse()?, value("Duration")?.parse()?));
    }
    Ok(keys)
}

fn keys_go(over: Over, ways: (Way, Way)) -> Result<()> {
    for _ in 0..ATTEMPTS {
        if keys_went(over, ways)? {
            return Ok(());
        }
    }
    bail!("the host stood still in each of {ATTEMPTS} attempts")
}

/// `false` if it cannot be said.
fn keys_went(over: Over, (from, to): (Way, Way)) -> Result<bool> {
    let lab = Lab::new()?;
    let trunks = trunks(from, to, over.addresses());
    let daemon = match over {
        Over::Sockets => Daemon::start_over_sockets(&lab, &trunks)?,
        Over::AfXdp | Over::BothFamilies => Daemon::start(&lab, &trunks)?,
    };
    let [mut caller, mut callee] = connected(&lab, from, to, over)?;
    let (heard, signalled) = thread::scope(|scope| {
        let End { phone, call, audio } = &mut callee;
        let informing = (to == Way::Info).then(|| scope.spawn(|| informed(phone, call)));
        let heard = press(&mut caller, audio, from)?;
        let signalled =
            informing.map(|informing| informing.join().expect("it does not panic")).transpose()?;
        anyhow::Ok((heard, signalled.unwrap_or_default()))
    })?;
    let Some(heard) = heard else { return Ok(false) };
    for (way, came) in [(Way::Events, events(&heard)), (Way::InBand, tones(&heard)), (Way::Info, signalled)] {
        let keys: Vec<char> = came.iter().map(|(key, _)| *key).collect();
        let expected = if way == to { KEYS.to_vec() } else { Vec::new() };
        ensure!(keys == expected, "by {way:?} came {came:?}");
        // A tone is told from what it was cut of to a packet or two.
        let pressed = (PACKET.as_millis() as u64) * PRESSED as u64;
        let alike = came.iter().all(|(_, lasted)| lasted.abs_diff(pressed) <= 40);
        ensure!(alike, "each was down for {pressed} ms, and by {way:?} came {came:?}");
    }
    caller.phone.hang_up(&mut caller.call)?;
    callee.phone.be_hung_up(&callee.call)?;
    ensure!(daemon.records(1)?[0].sip_status == 200);
    Ok(true)
}

fn others(from: Way) -> impl Iterator<Item = Way> {
    Way::ALL.into_iter().filter(move |to| *to != from)
}

#[test]
fn telephone_events_become_tones_and_info() -> Result<()> {
    others(Way::Events).try_for_each(|to| keys_go(Over::AfXdp, (Way::Events, to)).context(to.name()))
}

#[test]
fn tones_become_telephone_events_and_info() -> Result<()> {
    others(Way::InBand).try_for_each(|to| keys_go(Over::AfXdp, (Way::InBand, to)).context(to.name()))
}

#[test]
fn info_becomes_telephone_events_and_tones() -> Result<()> {
    others(Way::Info).try_for_each(|to| keys_go(Over::AfXdp, (Way::Info, to)).context(to.name()))
}

#[test]
fn keys_are_converted_over_sockets_too() -> Result<()> {
    keys_go(Over::Sockets, (Way::Events, Way::InBand))?;
    keys_go(Over::Sockets, (Way::InBand, Way::Events))
}

#[test]
fn keys_are_converted_between_ipv6_and_ipv4() -> Result<()> {
    keys_go(Over::BothFamilies, (Way::InBand, Way::Events))?;
    keys_go(Over::BothFamilies, (Way::Events, Way::InBand))
}
