// signed_zone -- a zone "signed.test" with DNSSEC, signed once by a key that is thrown away; good from 2024 to 2059.
#pragma once

#include "dns_server.hpp"

namespace test::dns {

constexpr std::string_view trust_anchor =
    "signed.test. IN DS 47915 13 2 34003857303d6ec4b2465bc5ff884e97221e711590e4ae231322ed0cec9c63f0\n";

inline std::string from_hex(std::string_view hex) {
    std::string out;
    for (; hex.size() >= 2; hex.remove_prefix(2)) out += char(std::stoi(std::string(hex.substr(0, 2)), nullptr, 16));
    return out;
}

// The record, and the signature of it (RFC 4034 3.1: ECDSA P-256, 300 s, from 2024-01-01 to 2059-12-31, key 47915).
inline Records with_signature(const std::string& name, unsigned type, const std::string& rdata, std::string_view hex) {
    const auto labels = unsigned(1 + std::count(name.begin(), name.end(), '.'));
    return {{name, type, rdata},
            {name, RRSIG,
             number(type) + char(13) + char(labels) + number(0) + number(300) + from_hex("a9491c0065920080") +
                 number(47915) + wire("signed.test") + from_hex(hex)}};
}

inline Records signed_key() {
    return with_signature("signed.test", DNSKEY,
                          from_hex("0101030db2f407478958608a771b7c92bd78678153557ec82b9695f046378e1605c984404f968637fbd"
                                   "53b672bbd958f5ac76b09bd59b5c7bbbff944c5900eb0521625b5"),
                          "2fa4238ac9492c4c421e985d6d97afdcd4a5c4cca45b40dbd13ff1cd6cba4a44"
                          "12a99f059a5c432c142dc6a61a80499147d6487d31f1629809f91e56682d1d73");
}
inline Records signed_soa() {
    return with_signature("signed.test", SOA, soa("signed.test").rdata,
                          "5ece6c753de4b8c7b7a6fb2717afc7739e4902a9edc30a463ae90de15408148b"
                          "0df60147cb0705e101257732a6a9c150ccbb41be95b6ff3f84560fde9a20596b");
}
inline Records signed_address() {
    return with_signature("mail.signed.test", A, address("192.0.2.25"),
                          "264fd6454eb051fdbd8d9679f09049e0f7221e87d5a1a3a373036184f2418b8d"
                          "381ea168a30661d14b72a631544851cc987676fb703b5cabfa42cd0ad1950dd3");
}
inline Records signed_tlsa() {
    return with_signature("_25._tcp.mail.signed.test", TLSA,
                          from_hex("0301018fa3aab2faa9b79e0a0398da5b5abd0780142442a5be80b9a64608d718cb1fcd"),
                          "8823915be499f688432ef008a96818a021c48ad4a35778d299e98ee59e38fbd3"
                          "c598a6b3f5c06261add8fbbe47318a8b962a64fe54fec406c34e41199adb40fe");
}
// The signature is that of another address.
inline Records forged_address() {
    return with_signature("forged.signed.test", A, address("192.0.2.66"),
                          "dc0c4a5606c73e5c094df8409cfd5cf651eb90a2d3ceb5e6c1a5469dbea76266"
                          "36112f9508fe410c4acfb0a1a09d9c200d2a34b716d31b7cadeaa8052eec53d6");
}
// RFC 4034 4: what names and types there are no others between.
inline Records after_apex() {
    return with_signature("signed.test", NSEC, from_hex("046d61696c067369676e6564047465737400000702000000000380"),
                          "9aebdce25173cd36c6b974d6510205e4031f974a7ce10209c44133676e265c55"
                          "2c23c98f26e1a1a61182f7287067a90ed96865ba1755dafaa6a027aae0d18d98");
}
inline Records after_mail() {
    return with_signature("mail.signed.test", NSEC,
                          from_hex("035f3235045f746370046d61696c067369676e65640474657374000006400000000003"),
                          "39dfd5619f8daa2be5b78c3839f6c83687788466cf7062776c3a2797c7602954"
                          "31d873a2178232edbe094661cdb16717dac8634500e09ce108edbb5349e982b5");
}
inline Records after_tlsa() {
    return with_signature("_25._tcp.mail.signed.test", NSEC, from_hex("067369676e6564047465737400000700000000000308"),
                          "aa0bc4e787a2f088cdf2fbce07af9c29ce2fd92515ff60f343c360e40abcf4aa"
                          "4f0a570789505ea41bcfd978755a3a18043c0b5b6f0113351c6919a92c4ef68b");
}

inline Records together(const std::vector<Records>& parts) {
    Records out;
    for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
    return out;
}

}  // namespace test::dns
