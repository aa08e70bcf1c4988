package main

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a command may take to end after the second signal.
const patience = 5 * time.Second

// interrupts answers signals: the first one asks for an orderly end, the second
// ends at once, and a command that then does not end is ended.
type interrupts struct {
	c      chan os.Signal
	stop   chan struct{}
	done   chan struct{}
	cancel context.CancelFunc
	tell   func(string)
	exit   func(*signalError) // after patience has run out

	mu    sync.Mutex
	first syscall.Signal
	drain func() // the orderly end; nil: there is nothing to finish
}

// catch starts answering. A signal that is ignored stays so, as nohup wants.
func catch(cancel context.CancelFunc, tell func(string), exit func(*signalError)) *interrupts {
	i := newInterrupts(cancel, tell, exit)
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) {
			signal.Notify(i.c, s)
		}
	}
	go i.answer()
	return i
}

func newInterrupts(cancel context.CancelFunc, tell func(string), exit func(*signalError)) *interrupts {
	return &interrupts{
		c: make(chan os.Signal, 4), stop: make(chan struct{}), done: make(chan struct{}),
		cancel: cancel, tell: tell, exit: exit,
	}
}

func (i *interrupts) answer() {
	defer close(i.done)
	var giveUp <-chan time.Time
	for {
		select {
		case <-i.stop:
			return
		case <-giveUp:
			i.exit(&signalError{i.signal()})
			return
		case s := <-i.c:
			if !i.orderly(s) {
				i.cancel()
				if giveUp == nil {
					giveUp = time.After(patience)
				}
			}
		}
	}
}

// orderly begins the orderly end, if there is one and it has not begun yet.
func (i *interrupts) orderly(s os.Signal) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	again := i.first != 0
	if n, ok := s.(syscall.Signal); ok && !again {
		i.first = n
	}
	if again || i.drain == nil {
		return false
	}
	i.tell("interrupted: finishing what is in flight; again to stop at once")
	i.drain()
	return true
}

// begun says how the work that has now begun is brought to an orderly end.
func (i *interrupts) begun(drain func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.drain = drain
	if i.first != 0 {
		drain()
	}
}

// signal is the first that came; 0 when none did.
func (i *interrupts) signal() syscall.Signal {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.first
}

func (i *interrupts) close() {
	signal.Stop(i.c)
	close(i.stop)
	<-i.done
}

// onUSR1 does what SIGUSR1 asks for, until the returned function is called, which may be
// more than once. While it is done, one more signal is remembered, and others come to
// nothing. One that comes after the end comes to nothing too: it must not kill the program
// while that still tells what it did. A signal that is ignored stays so.
func onUSR1(do func()) (stop func()) {
	if signal.Ignored(syscall.SIGUSR1) {
		return func() {}
	}
	c, quit, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(c, syscall.SIGUSR1)
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-c:
				do()
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(quit)
		<-done
	})
}

func signalName(s syscall.Signal) string {
	if name := unix.SignalName(s); name != "" {
		return name
	}
	return s.String()
}
