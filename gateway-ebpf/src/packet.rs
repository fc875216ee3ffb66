//! Packet memory behind the cursor of `gateway_common`: every access is compared with the end of the packet
//! where the verifier can see it.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail},
    programs::XdpContext,
};
use core::{arch::asm, hint::black_box};
use gateway_common::{
    cursor::{Cursor, CursorMut, Window},
    net::{Be16, Be32},
};

/// The verifier gives up on packet pointers with offsets near 64 KiB; no frame that XDP sees is as long.
const OFFSET_MAX: usize = 0x7fff;

/// The frame that the program was called for.
pub struct Packet {
    pub context: XdpContext,
}

impl Packet {
    #[inline(always)]
    pub fn new(context: XdpContext) -> Self {
        Self { context }
    }

    #[inline(always)]
    pub fn ingress(&self) -> u32 {
        self.context.ingress_ifindex() as u32
    }

    #[inline(always)]
    pub fn receive_queue(&self) -> u32 {
        // SAFETY: the context is the one that the kernel passed in.
        unsafe { (*self.context.ctx).rx_queue_index }
    }

    #[inline(always)]
    pub fn raw_context(&self) -> *mut xdp_md {
        self.context.ctx
    }

    /// Moves the start of the frame by `delta` octets; below zero makes room. `Err` leaves it as it was.
    #[inline(always)]
    pub fn move_start(&mut self, delta: i32) -> Result<(), ()> {
        // SAFETY: the context is the one that the kernel passed in; pointers are taken anew at each access.
        match unsafe { bpf_xdp_adjust_head(self.context.ctx, delta) } {
            0 => Ok(()),
            _ => Err(()),
        }
    }

    /// Cuts `octets` off the end.
    #[inline(always)]
    pub fn trim(&mut self, octets: i32) -> Result<(), ()> {
        // SAFETY: as above.
        match unsafe { bpf_xdp_adjust_tail(self.context.ctx, -octets) } {
            0 => Ok(()),
            _ => Err(()),
        }
    }

    /// Pointer to `len` octets at `offset` that are all within the packet.
    #[inline(always)]
    fn at(&self, offset: usize, len: usize) -> Option<*mut u8> {
        // For the verifier of all kernels: LLVM turns `start + 1 <= end` into `start < end`, from which the
        // verifier learns nothing about a pointer without a constant part, and folds a constant part below
        // zero into the pointer. Only the octet that counts RTP padding and the odd last one are read singly.
        let offset = if len == 1 { black_box(offset) } else { offset };
        if offset > OFFSET_MAX {
            return None;
        }
        let start = self.context.data() + offset;
        let start = if len == 1 { black_box(start) } else { start };
        (start + len <= self.context.data_end()).then_some(start as *mut u8)
    }
}

/// The same offset, of which the verifier does not know how it came about.
///
/// For the verifier of all kernels: each combination of VLAN tags and extension headers is an offset of its own,
/// and it would walk the whole rest of the program for each, past the million instructions that it grants.
#[inline(always)]
pub fn forget(offset: usize) -> usize {
    bounded(cw_forget(offset as u32))
}

/// An offset that came as an argument, cut to what can be one.
///
/// For the verifier of 6.1: a function that is verified by itself may be called with any number, and once the
/// compiler compares one copy of it and adds the other to a pointer, the comparison proves nothing.
#[inline(always)]
pub fn bounded(offset: u32) -> usize {
    const { assert!((OFFSET_MAX + 1).is_power_of_two(), "the mask is all ones") };
    let mut offset = offset as usize;
    // SAFETY: arithmetic on a register.
    unsafe {
        asm!("{0} &= {1}", inout(reg) offset, const OFFSET_MAX, options(pure, nomem, nostack, preserves_flags))
    };
    offset
}

#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cw_forget(value: u32) -> u32 {
    black_box(value)
}

impl Cursor for Packet {
    type Window<'a, const N: usize> = PacketWindow<N>;

    #[inline(always)]
    fn window<const N: usize>(&self, offset: usize) -> Option<PacketWindow<N>> {
        Some(PacketWindow { start: self.at(offset, N)? })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        let mut len = self.context.data_end();
        // For the verifier of all kernels: as plain Rust, the difference of two packet pointers is mixed with
        // other sums and cut to 32 bits, which pointers must not be.
        // SAFETY: arithmetic on registers.
        unsafe {
            asm!("{0} -= {1}", inout(reg) len, in(reg) self.context.data(),
                options(pure, nomem, nostack, preserves_flags))
        };
        len
    }
}

impl CursorMut for Packet {
    #[inline(always)]
    fn put(&mut self, offset: usize, word: Be32) -> Option<()> {
        self.window::<4>(offset)?.put32::<0>(word.raw());
        Some(())
    }
}

/// `N` octets that were compared with the end of the packet. Dead once the packet's start or end has moved: the
/// verifier then refuses it.
#[derive(Clone, Copy)]
pub struct PacketWindow<const N: usize> {
    start: *mut u8,
}

/// Loads and stores of packet memory, whatever its alignment. In assembly, because fields of a packet are two
/// octets off, the compiler may not assume that the machine bears it, and would take words octet by octet; the
/// verifier allows whole words where the machine does (x86-64, arm64).
macro_rules! access {
    ($load:ident, $store:ident, $int:ty, $width:literal) => {
        #[inline(always)]
        pub fn $load<const AT: usize>(&self) -> $int {
            const { assert!(AT + size_of::<$int>() <= N) };
            let value: u64;
            // SAFETY: within the window, hence within the packet.
            unsafe {
                asm!(concat!("{0} = *(", $width, " *)({1} + {2})"), out(reg) value, in(reg) self.start,
                    const AT, options(pure, readonly, nostack, preserves_flags))
            };
            value as $int
        }

        #[inline(always)]
        pub fn $store<const AT: usize>(&self, value: $int) {
            const { assert!(AT + size_of::<$int>() <= N) };
            // SAFETY: within the window, hence within the packet.
            unsafe {
                asm!(concat!("*(", $width, " *)({1} + {2}) = {0}"), in(reg) u64::from(value),
                    in(reg) self.start, const AT, options(nostack, preserves_flags))
            };
        }
    };
}

impl<const N: usize> PacketWindow<N> {
    access!(load8, put8, u8, "u8");
    access!(load16, put16, u16, "u16");
    access!(load32, put32, u32, "u32");
    access!(load64, put64, u64, "u64");

    /// The `LEN` octets of it from `AT` on.
    #[inline(always)]
    pub fn part<const AT: usize, const LEN: usize>(&self) -> PacketWindow<LEN> {
        const { assert!(AT + LEN <= N) };
        PacketWindow { start: self.start.wrapping_add(AT) }
    }
}

impl<const N: usize> Window for PacketWindow<N> {
    #[inline(always)]
    fn octet<const AT: usize>(&self) -> u8 {
        self.load8::<AT>()
    }

    #[inline(always)]
    fn be16<const AT: usize>(&self) -> Be16 {
        Be16::from_raw(self.load16::<AT>())
    }

    #[inline(always)]
    fn be32<const AT: usize>(&self) -> Be32 {
        Be32::from_raw(self.load32::<AT>())
    }

    #[inline(always)]
    fn raw64<const AT: usize>(&self) -> u64 {
        self.load64::<AT>()
    }
}
