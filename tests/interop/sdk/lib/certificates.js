// X.509 certificates made with the openssl command, below one folder.
'use strict';
const { execFileSync } = require('node:child_process');
const { X509Certificate, createHash, randomBytes } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');

const openssl = (...args) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

function load(base) {
  const cert = fs.readFileSync(`${base}.pem`, 'utf8');
  const der = new X509Certificate(cert).raw;
  const digest = (name) => createHash(name).update(der).digest('hex');
  return { cert, key: fs.readFileSync(`${base}.key`, 'utf8'), sha1: digest('sha1'), sha256: digest('sha256') };
}

const place = (folder) => path.join(folder, `certificate-${randomBytes(4).toString('hex')}`);

/** `{cert, key, sha1, sha256}`: PEM texts and thumbprints in hex. */
function selfSigned(folder, commonName, extra = []) {
  const base = place(folder);
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=${commonName}`, '-keyout', `${base}.key`, '-out',
    `${base}.pem`, ...extra);
  return load(base);
}

/** A certification authority of its own. */
function authority(folder, commonName) {
  const base = place(folder);
  openssl('req', '-x509', ...newKey, '-days', '2', '-subj', `/CN=${commonName}`, '-keyout', `${base}.key`, '-out',
    `${base}.pem`);
  return authorityAt(base);
}

/** The one whose files are `base`.pem and `base`.key: `issue` makes certificates that `pem` vouches for. */
function authorityAt(base) {
  return {
    base,
    pem: fs.readFileSync(`${base}.pem`, 'utf8'),
    issue(name, extensions = 'extendedKeyUsage=clientAuth') {
      const leaf = place(path.dirname(base));
      openssl('req', ...newKey, '-subj', `/CN=${name}`, '-keyout', `${leaf}.key`, '-out', `${leaf}.csr`);
      fs.writeFileSync(`${leaf}.ext`, `${extensions}\n`);
      openssl('x509', '-req', '-in', `${leaf}.csr`, '-CA', `${base}.pem`, '-CAkey', `${base}.key`, '-CAcreateserial',
        '-days', '2', '-extfile', `${leaf}.ext`, '-out', `${leaf}.pem`);
      return load(leaf);
    },
  };
}

module.exports = { selfSigned, authority, authorityAt };
