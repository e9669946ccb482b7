package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// probe is a program that martlet exec runs. Its arguments are what it does, in order:
//
//	fetch ADDRESS  connects, and prints what comes
//	dial ADDRESS   connects, and prints the error
//	send ADDRESS   sends a datagram there
//	wait           says so, and ends with status 9 at SIGTERM
//	env WORD       prints what the environment has with that word
//
// It ends with status 42.
func probe() {
	for args := os.Args[1:]; len(args) > 1; args = args[2:] {
		if err := probeOne(args[0], args[1]); err != nil {
			fmt.Println(args[0], args[1], err)
		}
	}
	os.Exit(42)
}

func probeOne(what, with string) error {
	switch what {
	case "fetch", "dial":
		conn, err := (&net.Dialer{Resolver: &net.Resolver{PreferGo: true}}).DialContext(context.Background(), "tcp", with)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(conn)
		fmt.Printf("%s\n", text)
		return errors.Join(err, conn.Close())
	case "send":
		conn, err := net.Dial("udp", with)
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("leaked"))
		return errors.Join(err, conn.Close())
	case "env":
		for _, entry := range os.Environ() {
			if strings.Contains(entry, with) {
				fmt.Println(entry)
			}
		}
	case "wait":
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		fmt.Println("waiting")
		<-told
		os.Exit(9)
	}
	return nil
}
