#include "SaslCrypto.hpp"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <stdexcept>

#include "Gsasl.hpp"

namespace Net::SMTP {

namespace {

constexpr std::size_t sha256_size = 32;
constexpr std::size_t default_salt = 16;

unsigned char* octets_of(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }
const unsigned char* octets_of(std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); }

void must(bool done, const char* what) {
    if (!done) throw std::runtime_error(std::string("OpenSSL can't: ") + what);
}

std::string hmac(const EVP_MD* hash, std::string_view key, std::string_view octets) {
    std::string result(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    // An empty view may be null, which HMAC takes for a key used before.
    const char* at = key.empty() ? "" : key.data();
    must(HMAC(hash, at, static_cast<int>(key.size()), octets_of(octets), octets.size(), octets_of(result), &size),
         "HMAC");
    result.resize(size);
    return result;
}

}  // namespace

std::string sha256(std::string_view octets) {
    std::string result(sha256_size, '\0');
    must(EVP_Digest(octets.data(), octets.size(), octets_of(result), nullptr, EVP_sha256(), nullptr) == 1, "SHA-256");
    return result;
}

std::string hmac_sha256(std::string_view key, std::string_view octets) { return hmac(EVP_sha256(), key, octets); }
std::string hmac_md5(std::string_view key, std::string_view octets) { return hmac(EVP_md5(), key, octets); }

std::string pbkdf2_sha256(std::string_view password, std::string_view salt, unsigned iterations) {
    std::string result(sha256_size, '\0');
    must(PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), octets_of(salt),
                           static_cast<int>(salt.size()), static_cast<int>(iterations), EVP_sha256(),
                           static_cast<int>(sha256_size), octets_of(result)) == 1,
         "PBKDF2");
    return result;
}

std::string hexadecimal(std::string_view octets) {
    std::string result;
    for (unsigned char c : octets) (result += "0123456789abcdef"[c >> 4]) += "0123456789abcdef"[c & 15];
    return result;
}

std::string random_octets(std::size_t count) {
    std::string result(count, '\0');
    must(RAND_bytes(octets_of(result), static_cast<int>(count)) == 1, "random octets");
    return result;
}

bool same_octets(std::string_view a, std::string_view b) {
    return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string exclusive_or(std::string_view a, std::string_view b) {
    std::string result(a);
    for (std::size_t i = 0; i < result.size() && i < b.size(); ++i) result[i] = static_cast<char>(result[i] ^ b[i]);
    return result;
}

std::string client_key(std::string_view salted) { return hmac_sha256(salted, "Client Key"); }

ScramKeys keys_of(std::string_view salted, unsigned iterations, std::string salt) {
    return {iterations, std::move(salt), sha256(client_key(salted)), hmac_sha256(salted, "Server Key")};
}

ScramKeys scram_keys(std::string_view password, unsigned iterations, std::string salt) {
    auto prepared = saslprep(password);
    if (!prepared) throw std::invalid_argument("A password that SASLprep prohibits");
    if (!iterations || iterations > 10'000'000) throw std::invalid_argument("SCRAM keys: 1 to 10,000,000 iterations");
    if (salt.empty()) salt = random_octets(default_salt);
    auto salted = pbkdf2_sha256(*prepared, salt, iterations);
    return keys_of(salted, iterations, std::move(salt));
}

}  // namespace Net::SMTP
