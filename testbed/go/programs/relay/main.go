// Relay accepts connections on the listening socket that is its standard input, and passes each on to the address that is its
// argument. A socket stays in the network namespace where it was made, so that this leads from one namespace into another.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: relay ADDRESS <LISTENING-SOCKET")
	}
	listener, err := net.FileListener(os.Stdin)
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go pass(client, os.Args[1])
	}
}

// pass copies both ways, and hands on each end of a stream by itself: a peer may still answer after it was sent everything.
func pass(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	answered := make(chan struct{})
	go func() {
		copyStream(client, server)
		close(answered)
	}()
	copyStream(server, client)
	<-answered
}

func copyStream(to, from net.Conn) {
	// An error ends the stream as its end does; the peers have to deal with either.
	_, _ = io.Copy(to, from)
	if stream, ok := to.(*net.TCPConn); ok {
		_ = stream.CloseWrite()
	}
}
