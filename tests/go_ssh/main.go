// Logs in as golang.org/x/crypto/ssh does for Pulumi's command provider: `main ADDRESS KEY HOST-KEY COMMAND`.
package main

import (
	"log"
	"os"

	"golang.org/x/crypto/ssh"
)

func main() {
	key, err := os.ReadFile(os.Args[2])
	must(err)
	signer, err := ssh.ParsePrivateKey(key)
	must(err)
	public, err := os.ReadFile(os.Args[3])
	must(err)
	host, _, _, _, err := ssh.ParseAuthorizedKey(public)
	must(err)
	client, err := ssh.Dial("tcp", os.Args[1], &ssh.ClientConfig{
		User:            "root",
		Auth:            []ssh.AuthMethod{ssh.PublicKeys(signer)},
		HostKeyCallback: ssh.FixedHostKey(host),
	})
	must(err)
	session, err := client.NewSession()
	must(err)
	must(session.Run(os.Args[4]))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
