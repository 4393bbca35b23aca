package config

import (
	"bytes"
	"cmp"
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
	for _, value := range u.all("Service", "ImportCredential") {
		s.imported(root, u.expand(value), files)
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

// imported adds the credentials that ImportCredential= finds, "NAME" or "BEGINNING*", and ":" with
// the name or the beginning that they get instead. What was found before stays.
func (s *Service) imported(root, value string, into map[string]credential) {
	name, renamed, rename := strings.Cut(value, ":")
	begins, many := strings.CutSuffix(name, "*")
	if !rename {
		renamed = begins
	}
	add := func(file, path string, encrypted bool) {
		rest, fits := strings.CutPrefix(file, begins)
		if !fits || !many && rest != "" {
			return
		}
		before, there := into[renamed+rest]
		if _, err := os.Lstat(before.path); !there || errors.Is(err, fs.ErrNotExist) {
			into[renamed+rest] = credential{path: path, encrypted: encrypted}
		}
	}
	for _, encrypted := range []bool{false, true} {
		for _, folder := range credentialStores(encrypted) {
			folder = filepath.Join(root, folder)
			entries, err := os.ReadDir(folder)
			switch {
			case !errors.Is(err, fs.ErrPermission):
			case many:
				s.fault = errors.Join(s.fault, fmt.Errorf("look for the credentials of %s: %w; run this as root", s.Unit, err))
			default:
				add(name, filepath.Join(folder, name), encrypted) // reading it says that it may not be read
			}
			for _, e := range entries {
				add(e.Name(), filepath.Join(folder, e.Name()), encrypted)
			}
		}
	}
}

// inStore returns the file of a credential that is named without its folder.
func inStore(root, path string, encrypted bool) string {
	if filepath.IsAbs(path) {
		return filepath.Join(root, path)
	}
	stores := credentialStores(encrypted)
	for _, folder := range stores {
		if there := filepath.Join(root, folder, path); isThere(there) {
			return there
		}
	}
	return filepath.Join(root, stores[1], path)
}

// credentialStores returns the folders in which systemd looks for a credential, in their order:
// those that it was passed itself come first.
func credentialStores(encrypted bool) []string {
	passed, kind := "run/credentials/@system", ""
	if encrypted {
		passed, kind = "run/credentials/@encrypted", ".encrypted"
	}
	folders := []string{passed}
	for _, folder := range []string{"etc", "run", "usr/local/lib", "usr/lib"} {
		folders = append(folders, folder+"/credstore"+kind)
	}
	return folders
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
	said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	switch {
	case err == nil:
		return stdout.String(), nil
	case os.Geteuid() != 0:
		return "", fmt.Errorf("decrypt the credential %s (%.200s): %w", id, cmp.Or(said, fmt.Sprint(err)), fs.ErrPermission)
	}
	return "", fmt.Errorf("systemd-creds cannot decrypt it (%w: %.200s)", err, said)
}
