package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// credential is a secret that the service manager passes, or would pass.
type credential struct {
	path      string // of the file that holds it; empty for one that the unit itself holds
	text      string // what the unit itself holds: the credential, or the default where there is no file
	encrypted bool   // what the file holds
	sealed    bool   // the text is encrypted
}

// decryptTime is how long systemd-creds may take: it can ask a TPM.
const decryptTime = 20 * time.Second

// readCredentials reads which credentials the unit has, by their ids. systemd.exec(5),
// "Credentials"
func (s *Service) readCredentials(root string, u *unit) {
	s.credentials = map[string]credential{}
	files, texts := map[string]credential{}, map[string]credential{}
	for _, a := range u.settings { // in their order: the later one of an id counts, encrypted or not
		if a.section != "Service" {
			continue
		}
		into, encrypted := files, strings.HasSuffix(a.key, "Encrypted")
		switch a.key {
		case "LoadCredential", "LoadCredentialEncrypted":
		case "SetCredential", "SetCredentialEncrypted":
			into = texts
		default:
			continue
		}
		if a.value == "" {
			clear(into)
			continue
		}
		id, value, given := strings.Cut(a.value, ":")
		id = u.expand(id)
		switch {
		case a.key == "SetCredential":
			into[id] = credential{text: unescapeAll(value)}
		case a.key == "SetCredentialEncrypted":
			into[id] = credential{text: strings.Join(strings.Fields(value), ""), sealed: true}
		case given:
			into[id] = credential{path: inStore(root, u.expand(value), encrypted), encrypted: encrypted}
		default:
			into[id] = credential{path: inStore(root, id, encrypted), encrypted: encrypted}
		}
	}
	for id, c := range texts {
		s.credentials[id] = c
	}
	for id, c := range files { // with the text as the default
		c.text, c.sealed = texts[id].text, texts[id].sealed
		s.credentials[id] = c
	}
	s.readableCertificates(u)
}

// inStore returns the file of a credential that is named without its folder.
func inStore(root, path string, encrypted bool) string {
	if filepath.IsAbs(path) {
		return filepath.Join(root, path)
	}
	folders := []string{"etc/credstore", "run/credstore", "usr/local/lib/credstore", "usr/lib/credstore"}
	for _, folder := range folders {
		if encrypted {
			folder += ".encrypted"
		}
		if there := filepath.Join(root, folder, path); isThere(there) {
			return there
		}
	}
	return filepath.Join(root, folders[0], path)
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readableCertificates has variables that name a file among the credentials, as %d/ID, name the
// file that it is made from: the credentials are there only while the service runs.
func (s *Service) readableCertificates(u *unit) {
	for name, value := range s.environ {
		id, ok := strings.CutPrefix(value, u.credentialsDir()+"/")
		if !ok {
			continue
		}
		if c := s.credentials[id]; c.path != "" && !c.encrypted && isThere(c.path) {
			s.environ[name] = c.path
		}
	}
}

// read returns the credential, "" where there is none. An error that is an [fs.ErrPermission] needs
// another user.
func (c credential) read(id string) (string, error) {
	content, sealed := []byte(c.text), c.sealed
	if c.path != "" {
		info, err := os.Stat(c.path) // before it is opened: opening a pipe waits for its other end
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return "", err
		case !info.Mode().IsRegular() || info.Size() > maxSecretFile:
			return "", errors.New("it is not a file that holds a secret")
		default:
			if content, err = os.ReadFile(c.path); err != nil {
				return "", err
			}
			sealed = c.encrypted
		}
	}
	if sealed && len(content) > 0 {
		return decrypt(id, content)
	}
	return string(content), nil
}

// decrypt has systemd decrypt a credential, which only root may ask for.
func decrypt(id string, sealed []byte) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), decryptTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemd-creds", "decrypt", "--name="+id, "-", "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(sealed), &stdout, &stderr
	err := cmd.Run()
	switch {
	case err == nil:
		return stdout.String(), nil
	case os.Geteuid() != 0:
		return "", fmt.Errorf("decrypt the credential %s: %w", id, fs.ErrPermission)
	}
	said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	return "", fmt.Errorf("systemd-creds cannot decrypt it (%w: %.200s)", err, said)
}
