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

// credential is a secret that systemd passes, or would pass, to the service.
type credential struct {
	path      string // of the file that holds it; empty if the unit itself does
	text      string // in the unit itself: the credential, or the default if there is no file
	encrypted bool   // the file is encrypted
	sealed    bool   // the text is encrypted
}

// decryptTime bounds systemd-creds, which may have to ask a TPM.
const decryptTime = 20 * time.Second

// readCredentials reads the credentials of the unit, by id. systemd.exec(5), "Credentials"
func (s *Service) readCredentials(root string, u *unit) {
	s.credentials = map[string]credential{}
	files, texts := map[string]credential{}, map[string]credential{}
	for _, a := range u.settings { // in their order: the last one of an id counts, encrypted or not
		kind, encrypted := strings.CutSuffix(a.key, "Encrypted")
		into := map[string]map[string]credential{"LoadCredential": files, "SetCredential": texts}[kind]
		if a.section != "Service" || into == nil {
			continue
		}
		if a.value == "" {
			clear(into)
			continue
		}
		id, value, _ := strings.Cut(a.value, ":")
		id = u.expand(id)
		switch {
		case kind == "LoadCredential":
			into[id] = credential{path: inStore(root, cmp.Or(u.expand(value), id), encrypted), encrypted: encrypted}
		case encrypted:
			into[id] = credential{text: strings.Join(strings.Fields(value), ""), sealed: true}
		default:
			into[id] = credential{text: unescapeAll(value)}
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

// imported adds the credentials that ImportCredential= finds: "NAME" or "PREFIX*", optionally with
// ":" and the name or prefix that they get instead. A credential that exists already stays.
func (s *Service) imported(root, value string, into map[string]credential) {
	name, renamed, rename := strings.Cut(value, ":")
	prefix, many := strings.CutSuffix(name, "*")
	if !rename {
		renamed = prefix
	}
	add := func(file, path string, encrypted bool) {
		rest, matches := strings.CutPrefix(file, prefix)
		if !matches || !many && rest != "" {
			return
		}
		before, exists := into[renamed+rest]
		if _, err := os.Lstat(before.path); !exists || errors.Is(err, fs.ErrNotExist) {
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
				add(name, filepath.Join(folder, name), encrypted) // reading it returns the error
			}
			for _, e := range entries {
				add(e.Name(), filepath.Join(folder, e.Name()), encrypted)
			}
		}
	}
}

// inStore returns the path of a credential's file, which may be named without its folder.
func inStore(root, path string, encrypted bool) string {
	if filepath.IsAbs(path) {
		return filepath.Join(root, path)
	}
	stores := credentialStores(encrypted)
	for _, folder := range stores {
		if found := filepath.Join(root, folder, path); exists(found) {
			return found
		}
	}
	return filepath.Join(root, stores[1], path)
}

// credentialStores returns the folders in which systemd looks for a credential, in order. First are
// the credentials that were passed to systemd itself.
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

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// readableCertificates replaces the path of a credential in a variable (%d/ID) by the file that it
// is made from, because credentials exist only while the service runs.
func (s *Service) readableCertificates(u *unit) {
	for name, value := range s.environ {
		id, ok := strings.CutPrefix(value, u.credentialsDir()+"/")
		if !ok {
			continue
		}
		if c := s.credentials[id]; c.path != "" && !c.encrypted && exists(c.path) {
			s.environ[name] = c.path
		}
	}
}

// read returns the credential, or "" if none exists. An error that is an [fs.ErrPermission]
// needs another user.
func (c credential) read(id string) (string, error) {
	content, sealed := []byte(c.text), c.sealed
	if c.path != "" {
		inFile, _, err := readSecretFile(c.path)
		switch {
		case err == nil:
			content, sealed = inFile, c.encrypted
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
	}
	if sealed && len(content) > 0 {
		return decrypt(id, content)
	}
	return string(content), nil
}

// decrypt asks systemd to decrypt a credential, which only root may do.
func decrypt(id string, sealed []byte) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), decryptTime)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "systemd-creds", "decrypt", "--name="+id, "-", "-")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(sealed), &stdout, &stderr
	err := cmd.Run()
	message, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
	switch {
	case err == nil:
		return stdout.String(), nil
	case os.Geteuid() != 0:
		return "", fmt.Errorf("decrypt the credential %s (%.200s): %w", id, cmp.Or(message, fmt.Sprint(err)), fs.ErrPermission)
	}
	return "", fmt.Errorf("systemd-creds cannot decrypt it (%w: %.200s)", err, message)
}
