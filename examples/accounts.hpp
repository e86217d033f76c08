// accounts -- users of a file, who may show a bearer token or a certificate in place of their password.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include <Net/SMTP/Server/AuthFile.hpp>

class AccountFiles : public Net::SMTP::Accounts {
public:
    // `tokens` is a file of the same kind, with lines of user:token; "": there are none. With `certificates` a verified
    // certificate proves the user whose name is its e-mail address. Throws what the files are refused with.
    AccountFiles(const std::string& users, const std::string& tokens, bool certificates)
        : users_(users), certificates_(certificates) {
        if (!tokens.empty()) tokens_ = std::make_unique<Net::SMTP::AuthFile>(tokens);
    }
    // Reads them again. Throws as the constructor does; what was not read stays as it was.
    void reload() {
        users_.reload();
        if (tokens_) tokens_->reload();
    }

    Proofs proofs() const override {
        auto all = users_.proofs();
        all.token = tokens_ != nullptr;
        all.certificate = certificates_;
        return all;
    }
    std::optional<Net::SMTP::ScramKeys> keys(const std::string& user) override { return users_.keys(user); }
    std::optional<std::string> clear_password(const std::string& user) override { return users_.clear_password(user); }

    std::optional<std::string> token(const std::string& user, const std::string& token,
                                     const Net::SMTP::Channel&) override {
        const auto known = tokens_->clear_password(user);
        return known && same(*known, token) ? std::optional(user) : std::nullopt;
    }
    std::optional<std::string> certificate(const Net::SMTP::Certificate& shown, const std::string& user,
                                           const Net::SMTP::Channel&) override {
        const std::string email = "email:";
        for (const auto& name : shown.names)
            if (name.starts_with(email) && (user.empty() || name == email + user)) return name.substr(email.size());
        return std::nullopt;
    }

private:
    // Takes as long whatever differs.
    static bool same(const std::string& a, const std::string& b) {
        unsigned differences = a.size() != b.size();
        for (std::size_t i = 0; i < b.size(); ++i) differences |= unsigned(a[i % (a.size() + 1)] ^ b[i]);
        return differences == 0;
    }

    Net::SMTP::AuthFile users_;
    std::unique_ptr<Net::SMTP::AuthFile> tokens_;
    const bool certificates_;
};
