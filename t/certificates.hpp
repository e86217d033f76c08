// certificates -- the kit's authority and certificates, with the ways to go wrong that tests ask for by name.
#pragma once

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "peer.hpp"

namespace test {

using KeyPair = ServerTLS::KeyPair;  // the names of two PEM files: certificate with its chain, key
using Test::Wanted;

inline Wanted expired(Wanted w) { return w.from = -7200, w.to = -3600, w; }
inline Wanted not_yet_valid(Wanted w) { return w.from = 3600, w.to = 7200, w; }
inline Wanted self_signed(Wanted w) { return w.self_signed = true, w; }
inline Wanted of_client(Wanted w) { return w.client = true, w; }

class Certificates : public Test::Certificates {
public:
    using Test::Certificates::Certificates;

    // Octets as hexadecimal digits in small letters.
    static std::string hex(std::string_view octets) {
        std::string text;
        for (const unsigned char c : octets) {
            text += "0123456789abcdef"[c >> 4];
            text += "0123456789abcdef"[c & 15];
        }
        return text;
    }
};

}  // namespace test
